"""The report pack: all files that finance gets for a month; the same books always give the same bytes."""
