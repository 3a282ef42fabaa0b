"""What engines counted, over all their lives."""

from __future__ import annotations

import math
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families
from support.engine_process import EngineProcess

Counts = defaultdict[str, float]
AT_REST = (
    "requests_running",
    "requests_waiting",
    "requests_in_flight",
    "requests_with_pages_to_come",
    "offloads_in_flight",
    "pages_held l1",  # by requests: pages that are only cached do not count
    "pages_pinned l2",
    "l3_reads_queued",
    "l3_writes_queued",
    "bookkeeping_errors_total",
)

TIERED = (
    "hit_tokens_total l1",
    "hit_tokens_total l2",
    "hit_tokens_total l3",
    "evicted_pages_total l1",
    "evicted_pages_total l2",
    "evicted_pages_total l3",
    "adopted_pages_total l2",
    "recovered_pages_total l3",
    "corrupt_pages_total l2",
    "corrupt_pages_total l3",
    "preemptions_total",
    "restored_pages_total",
    "offloaded_pages_total",
    "saved_pages_total",
    "refused_pages_total",
    "computed_instead_of_loaded_pages_total",
    "l3_io_errors_total",
    "requests_cancelled_total",
)


def counts_of(engine: EngineProcess) -> Counts:
    """/metrics by name and tier: `hit_tokens_total l2`. Samples that differ otherwise are added."""
    found: Counts = defaultdict(float)
    for family in text_string_to_metric_families(engine.client.get("/metrics").text):
        for sample in family.samples if family.type != "histogram" else ():
            name = sample.name.removeprefix("kvtier_")
            found[f"{name} {sample.labels.get('tier', '')}".strip()] += sample.value
    return found


def unrest(counts: Counts) -> dict[str, float]:
    """What keeps an engine from being at rest; a figure that it does not give is no rest."""
    figures = {name: counts.get(name, math.nan) for name in AT_REST}
    return {name: value for name, value in figures.items() if value != 0}


class Totals:
    """Of lives that have ended and of the one under way, and what was done to them. Thread-safe."""

    def __init__(self) -> None:
        self._ended: Counts = defaultdict(float)
        self._living: Counts = defaultdict(float)
        self._events: Counter[str] = Counter()
        self._mutex = threading.Lock()

    def see(self, counts: Counts) -> None:
        """The latest counts of the engine that lives; what it counts later is lost if it dies."""
        self._living = counts

    def end_life(self) -> None:
        for name, value in self._living.items():
            self._ended[name] += value
        self._living = defaultdict(float)

    def happened(self, event: str, times: int = 1) -> None:
        with self._mutex:
            self._events[event] += times

    def __getitem__(self, name: str) -> float:
        return self._events[name] + self._ended[name] + self._living[name]

    def missing(self, names: Iterable[str]) -> list[str]:
        """Paths that were not taken."""
        return [name for name in names if not self[name]]

    def shown(self) -> str:
        names = [*sorted(self._events), *TIERED]
        return ", ".join(f"{name} {self[name]:g}" for name in names)
