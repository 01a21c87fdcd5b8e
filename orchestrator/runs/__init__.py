"""Runs: the life of a run on the control side, from a command line to its end."""
