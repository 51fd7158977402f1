"""What makes a run on the wire impossible: an error with a reason and a way out, exit code 2."""


class WireError(Exception):
    """The world could not be set up, or broke down: what was seen, what was expected, what to do."""
