"""The report pack: everything that finance gets for a month, as files that come out the same from the same books."""
