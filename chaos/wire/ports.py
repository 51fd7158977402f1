"""Ports that are handed to other processes: free ones, outside the range that outgoing connections are given."""

from __future__ import annotations

import random
import socket

LOW, HIGH = 20_000, 32_000


def free_port(taken: set[int]) -> int:
    """A port of the loopback address that nobody listens on, not in `taken`, which it joins.

    It is drawn from below the usual ephemeral range, so that no outgoing connection takes it while its process is down.
    """
    dice = random.SystemRandom()
    for _ in range(1000):
        port = dice.randrange(LOW, HIGH)
        if port in taken:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        taken.add(port)
        return port
    raise OSError(f"no free port between {LOW} and {HIGH} on 127.0.0.1")
