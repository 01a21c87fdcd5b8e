"""Upkeep: ledger, sidecars and audio are compared, repaired, rebuilt and swept.

`survey` compares and changes nothing; `repair`, `rebuild` and `sweep` act. All of them stream: a catalog may have
a hundred thousand takes.
"""
