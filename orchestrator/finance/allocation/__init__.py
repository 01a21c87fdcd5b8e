"""Allocation: pure rules that compute what rented time has cost and which part of it each payer pays. No SQL."""
