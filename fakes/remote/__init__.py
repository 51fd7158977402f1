"""A fake in a process of its own, tied to the harness by one connection: the history and the faults stay in one place."""
