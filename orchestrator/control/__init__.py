"""Control: records arrive and are written to the ledger, takes are sent out, and lost takes are sent again."""
