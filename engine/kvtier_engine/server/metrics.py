"""What /metrics tells: the core's totals and gauges, and HTTP's own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kvtier_engine.messages import Stats

PREFIX = "kvtier_"

_TTFT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120)
_TOKEN_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5)
_REQUEST_S = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

_NAME = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?")
_ESCAPE = re.compile(r"\\(.)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?')


class Metrics:
    """One registry a server. `in_flight` is asked when somebody looks."""

    def __init__(self, in_flight: Callable[[], int]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._core = _CoreStats()
        self._registry.register(self._core)
        counter, histogram = self._counter, self._histogram
        self.requests = counter("http_requests", "HTTP requests.", ("endpoint", "status"))
        self.cancelled = counter("requests_cancelled", "Requests whose client went away.")
        self.ttft = histogram("time_to_first_token_seconds", "Arrival to first token.", _TTFT_S)
        self.token_gap = histogram("inter_token_latency_seconds", "Token to token.", _TOKEN_S)
        self.duration = histogram(
            "request_duration_seconds", "Arrival to last byte.", _REQUEST_S, ("endpoint",)
        )
        gauge = Gauge(
            f"{PREFIX}requests_in_flight",
            "Sequences that the server has admitted, queued ones included.",
            registry=self._registry,
        )
        gauge.set_function(in_flight)

    def describe(self, config: Mapping[str, str]) -> None:
        """What this engine is, as labels of `kvtier_config_info`. Told once."""
        Info(f"{PREFIX}config", "How this engine was started.", registry=self._registry).info(
            dict(config)
        )

    def update(self, stats: Stats) -> None:
        """Takes the core's latest figures."""
        self._core.latest = stats

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        return Counter(f"{PREFIX}{name}", text, tuple(labels), registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: Iterable[str] = ()
    ) -> Histogram:
        return Histogram(
            f"{PREFIX}{name}", text, tuple(labels), buckets=buckets, registry=self._registry
        )


class GenerationClock:
    """Times the tokens of one request's answers."""

    def __init__(self, metrics: Metrics, arrived_s: float) -> None:
        """`arrived_s`: time.monotonic() when the request came."""
        self._metrics = metrics
        self._arrived_s = arrived_s
        self._last_s: dict[int, float] = {}

    def tokens(self, answer: int, count: int) -> None:
        """`count` tokens of an answer have just come; those of one step count evenly."""
        if count == 0:
            return
        now_s = time.monotonic()
        last_s = self._last_s.get(answer)
        self._last_s[answer] = now_s
        if last_s is None:
            self._metrics.ttft.observe(now_s - self._arrived_s)
            return
        for _ in range(count):
            self._metrics.token_gap.observe((now_s - last_s) / count)


class _CoreStats(Collector):
    """The core's figures under the names it gave them."""

    def __init__(self) -> None:
        self.latest = Stats(counters={}, gauges={})

    def collect(self) -> Iterable[Metric]:
        yield from _families(self.latest.counters, CounterMetricFamily)
        yield from _families(self.latest.gauges, GaugeMetricFamily)


def _families(
    values: Mapping[str, float], make: type[CounterMetricFamily] | type[GaugeMetricFamily]
) -> Iterable[Metric]:
    """One metric family a name, one sample a set of labels."""
    families: dict[str, Metric] = {}
    for full_name, value in values.items():
        match = _NAME.fullmatch(full_name)
        assert match is not None, f"the core sent a metric named `{full_name}`"
        name = PREFIX + match[1]
        family = families.setdefault(name, make(name, "From the engine's core."))
        suffix = "_total" if make is CounterMetricFamily else ""
        labels = {key: _unescape(text) for key, text in _LABEL.findall(match[2] or "")}
        family.add_sample(family.name + suffix, labels, value)
    return families.values()


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], text)
