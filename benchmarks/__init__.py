"""Benchmarks: what the parts of the harness cost. `python -m benchmarks --help` says how they are run."""
