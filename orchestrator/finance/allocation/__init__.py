"""Allocation: what rented time has cost, and who pays which part of it. Rules only; no SQL."""
