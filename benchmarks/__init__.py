"""Measurements of the product on this machine, each with its target: `python -m benchmarks`, or `make bench`."""
