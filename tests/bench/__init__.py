"""Benchmarks: how fast and how large, measured on this machine; `make bench` runs them all."""
