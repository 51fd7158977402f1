"""What several benchmarks share: figures and their targets, child processes and their CPU time, a load."""
