"""The books: the append-only record of money, in the ledger's database."""
