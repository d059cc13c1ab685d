"""Numbers for Prometheus at `/metrics`, read from their owners when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_CACHE_COUNTERS = (
    "hits",
    "misses",
    "evictions",
    "expirations",
    "rejected",
    "coalesced",
    "seconds_saved",
)


class _State(Collector):
    """What the queue and the cache count themselves."""

    def __init__(self, jobs: Callable[[], Mapping[Any, int]], cache: Callable[[], Mapping[str, Any]]) -> None:
        self._jobs, self._cache = jobs, cache

    def collect(self) -> Iterable[Metric]:
        """Read both at this instant."""
        by_state = GaugeMetricFamily("orfeas_jobs", "Jobs known to the server", labels=["state"])
        for state, count in self._jobs().items():
            by_state.add_metric([state], count)
        yield by_state
        stats = self._cache()
        for name in _CACHE_COUNTERS:
            yield CounterMetricFamily(f"orfeas_cache_{name}", f"Result cache: {name}", value=stats[name])
        yield GaugeMetricFamily("orfeas_cache_items", "Result cache: entries", value=stats["current_items"])
        yield GaugeMetricFamily("orfeas_cache_bytes", "Result cache: bytes", value=stats["current_memory_mb"] * 1e6)


class Metrics:
    """One registry per server, so that two in one process do not mix."""

    def __init__(self, jobs: Callable[[], Mapping[Any, int]], cache: Callable[[], Mapping[str, Any]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_State(jobs, cache))
        self.requests = Counter(
            "orfeas_requests", "HTTP requests", ["method", "route", "status"], registry=self._registry
        )
        self.generation_seconds = Histogram(
            "orfeas_generation_seconds",
            "Seconds from a worker's start on a request to its file, cache misses only",
            ["model"],
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900),
            registry=self._registry,
        )

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self._registry)
