"""What one turn of a benchmark gave, and how turns of several rounds become one figure."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness import median

GIB = 2**30
MIB = 2**20


@dataclass
class Turn:
    """`payload_bytes` moved in `seconds` of wall clock and `cpu_s` of processor time."""

    payload_bytes: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def gb_per_s(self) -> float:
        return self.payload_bytes / self.seconds / 1e9

    @property
    def cpu_s_per_gib(self) -> float:
        return self.cpu_s / (self.payload_bytes / GIB)

    @property
    def p50_ms(self) -> float:
        return percentile(self.latencies_s, 50) * 1e3


Work = Callable[[], Turn]


class Contest:
    """Sides that take turns: each round asks all of them once, beginning with another one."""

    def __init__(self, sides: dict[str, Work]) -> None:
        self.sides = sides
        self.turns: dict[str, list[Turn]] = {name: [] for name in sides}

    def run(self, rounds: int) -> Contest:
        for number in range(rounds):
            self.round(number)
        return self

    def round(self, number: int) -> None:
        names = list(self.sides)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            self.turns[name].append(self.sides[name]())

    def rate(self, name: str) -> float:
        return median([turn.gb_per_s for turn in self.turns[name]])

    def cpu(self, name: str) -> float:
        return median([turn.cpu_s_per_gib for turn in self.turns[name]])

    def p50(self, name: str) -> float:
        return median([turn.p50_ms for turn in self.turns[name]])

    def p99(self, name: str) -> float:
        """Of the requests of all rounds: one round has too few."""
        return percentile([s for turn in self.turns[name] for s in turn.latencies_s], 99) * 1e3

    def ratio(self, name: str, of: str, figure: Callable[[Turn], float]) -> float:
        """Median of the rounds' ratios: the disk's own rate wanders from round to round."""
        pairs = zip(self.turns[name], self.turns[of], strict=True)
        return median([figure(ours) / figure(theirs) for ours, theirs in pairs])


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


@contextmanager
def measured(turn: Turn) -> Iterator[None]:
    """Adds the block's wall clock and this process's processor time, all threads, to `turn`."""
    cpu, start = processor_s(), time.perf_counter()
    yield
    turn.seconds += time.perf_counter() - start
    turn.cpu_s += processor_s() - cpu


def processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def bar(value: float, limit: float, *, at_least: bool) -> str:
    """A figure that has a bar; set in bold where it misses it."""
    met = value >= limit if at_least else value <= limit
    return f"{value:.2f}" if met else f"**{value:.2f}**"
