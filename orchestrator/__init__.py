"""The control plane: presets become a plan, a plan becomes messages, records become a ledger and reports.

It runs without torch on a laptop, and it alone sees the database and the prices.
"""
