"""Invoices: read the bill files of several providers into lines of one form, exactly or not at all."""
