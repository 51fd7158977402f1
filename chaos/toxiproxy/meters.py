"""Bytes that went through, counted as Toxiproxy counts them, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[str, str, str, str]


class Meter:
    """The bytes of one direction of one proxy: received from its source, sent to its destination.

    `passed` holds those that were received and sent in one step, so that the fast path counts once.
    """

    __slots__ = ("passed", "received", "sent")

    def __init__(self) -> None:
        self.passed = 0
        self.received = 0
        self.sent = 0

    def __repr__(self) -> str:
        return f"<Meter received={self.passed + self.received} sent={self.passed + self.sent}>"


class Meters:
    """All meters of one server. They outlive their proxies, as counters should."""

    def __init__(self) -> None:
        self._meters: dict[Labels, Meter] = {}

    def meter(self, direction: str, proxy: str, listener: str, upstream: str) -> Meter:
        """The meter with these labels; made when first asked for."""
        return self._meters.setdefault((direction, proxy, listener, upstream), Meter())

    def exposition(self) -> str:
        """Everything, as `GET /metrics` answers it."""
        used = [(labels, meter) for labels, meter in sorted(self._meters.items()) if meter.passed or meter.received]
        received = ((labels, meter.passed + meter.received) for labels, meter in used)
        sent = ((labels, meter.passed + meter.sent) for labels, meter in used)
        return _counter("toxiproxy_proxy_received_bytes_total", received) + _counter("toxiproxy_proxy_sent_bytes_total", sent)


def _counter(name: str, values: Iterable[tuple[Labels, int]]) -> str:
    lines = [
        f'{name}{{direction="{_escape(direction)}",listener="{_escape(listener)}",'
        f'proxy="{_escape(proxy)}",upstream="{_escape(upstream)}"}} {value}\n'
        for (direction, proxy, listener, upstream), value in values
    ]
    return f"# HELP {name} \n# TYPE {name} counter\n" + "".join(lines)


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
