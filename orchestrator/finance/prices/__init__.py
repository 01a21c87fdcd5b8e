"""Prices: dated rates of GPUs, disks and songs, and the one in force."""
