"""Upkeep: compare, repair, rebuild and clean up the ledger, the sidecars and the audio.

`survey` compares and changes nothing; `repair`, `rebuild` and `sweep` change. All of them stream, because a catalog may
have a hundred thousand takes.
"""
