"""Prices: dated rates of GPUs, disks and songs, and the rule that says which rate is in force."""
