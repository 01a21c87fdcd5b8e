"""Runs: a run's life on the control side, from a command line to its end."""
