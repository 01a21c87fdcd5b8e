"""Invoices: files of several providers become lines of one kind, exactly or not at all."""
