"""What the gateway measures about itself: error rate, latency, requests and effects."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fakes.gateway.result import Effect

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Meter(Collector):
    """Counts answers and latencies, each with the clock's time, so that windows can be compared.

    An answer that a fault cut off counts as the gateway meant it: its own dashboards could not know better.
    A request that a fault lost before it arrived does not count.
    """

    def __init__(self) -> None:
        self._answers: list[tuple[float, int]] = []
        self._latencies: list[tuple[float, float]] = []
        self._effects: Sequence[Effect] = ()

    def answered(self, t: float, status: int) -> None:
        """A request for a tool got this HTTP status."""
        self._answers.append((t, status))

    def took(self, t: float, latency_ms: float) -> None:
        """A request's answer, or its asynchronous result, was ready after so many milliseconds."""
        self._latencies.append((t, latency_ms))

    def watch(self, effects: Sequence[Effect]) -> None:
        """Count the effects of this ledger, and start all other counts again."""
        self._effects = effects
        self._answers.clear()
        self._latencies.clear()

    def forget(self, before: float) -> None:
        """Let go of what was counted before that time."""
        for counted in (self._answers, self._latencies):
            del counted[: bisect.bisect_left(counted, (before,))]

    def figures(self, since_t: float | None = None, until_t: float | None = None) -> dict[str, float]:
        """Error rate (a share from 0 to 1), p95 (milliseconds) and counts of the window since_t <= t < until_t."""
        low = -math.inf if since_t is None else since_t
        high = math.inf if until_t is None else until_t
        statuses = [status for t, status in self._answers if low <= t < high]
        return {
            "tool_gw.http_5xx_rate": sum(s >= 500 for s in statuses) / len(statuses) if statuses else 0.0,
            "tool_gw.p95_latency_ms": _p95(ms for t, ms in self._latencies if low <= t < high),
            "requests": len(statuses),
            "effects": sum(low <= effect.at < high for effect in self._effects),
        }

    def collect(self) -> Iterator[Metric]:
        """The figures over all requests, for prometheus-client."""
        figures = self.figures()
        yield GaugeMetricFamily(
            "tool_gw_http_5xx_rate", "Share of answers with status 500 or above.", figures["tool_gw.http_5xx_rate"]
        )
        yield GaugeMetricFamily(
            "tool_gw_p95_latency_ms", "95th percentile of the time to a result, in ms.", figures["tool_gw.p95_latency_ms"]
        )
        requests = CounterMetricFamily("tool_gw_requests", "Answers to requests for a tool.", labels=["http_status"])
        for status, count in sorted(Counter(status for _, status in self._answers).items()):
            requests.add_metric([str(status)], count)
        yield requests
        effects = CounterMetricFamily("tool_gw_effects", "Committed effects.", labels=["tool"])
        for tool, count in sorted(Counter(effect.call.tool for effect in self._effects).items()):
            effects.add_metric([tool], count)
        yield effects

    def text(self) -> bytes:
        """The figures in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)


def _p95(values: Iterable[float]) -> float:
    """The nearest-rank 95th percentile, 0 where there is nothing to rank."""
    ranked = sorted(values)
    return round(ranked[math.ceil(0.95 * len(ranked)) - 1], 3) if ranked else 0.0
