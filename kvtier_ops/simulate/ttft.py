"""How long requests wait for their first token, with and without each tier.

One device computes prompts, in the order of their arrival, each whole before the next. n tokens
after c take n (1 + s (c + n/2)) / P: attention's share grows with the context. Decoding takes a
fixed share of the device. Pages in L1 cost nothing, those in L2 a copy before the rest is computed.
One queue of reads stands before the disks, in the order of arrival as well; reads begin when a
request arrives, not when its turn comes. When it does, the engine's own rule says how much of what
is still to come had better be computed, from the front, while the rest is read (kv/meeting.py).
Writes do not slow reads down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from kvtier_engine.kv.meeting import pages_to_compute
from kvtier_engine.kv.rates import PageRates

OVERLOAD = 1.0  # work asked for, over the time there is


class Loading(Enum):
    """What is done with pages that are on disk."""

    AS_THE_ENGINE = "load or compute, whatever ends sooner"
    ALWAYS = "everything is read, and waited for"


class Job(NamedTuple):
    """A request: tokens of its prompt by where they are; the rest is in no tier."""

    arrival_s: float
    input_tokens: int
    l2_tokens: int
    l3_tokens: int
    found_tokens: int  # those in L1 as well


@dataclass(frozen=True)
class Machine:
    """All in tokens per second."""

    prefill: float  # at the beginning of a prompt, when nothing is decoded
    slowdown: float  # of prefill by one token of context
    l2: float
    disk: float
    page_tokens: int
    decode_share: float = 0.0  # of the device's time

    def compute_s(self, tokens: float, context: float) -> float:
        rate = self.prefill * (1 - self.decode_share)
        return tokens * (1 + self.slowdown * (context + tokens / 2)) / rate

    def rate_at(self, context: float) -> float:
        return self.prefill * (1 - self.decode_share) / (1 + self.slowdown * context)


@dataclass(frozen=True)
class Waits:
    """Time to first token over all requests, in seconds, and how busy everything was."""

    mean_s: float
    p50_s: float
    p90_s: float
    p99_s: float
    device_load: float  # work over the time in which requests arrive; above 1: overloaded
    disk_load: float  # of reads, the same
    read_tokens: int
    computed_instead_tokens: int  # that were on disk

    @property
    def is_overloaded(self) -> bool:
        return self.device_load > OVERLOAD


def simulate_waits(
    jobs: Sequence[Job], machine: Machine, loading: Loading = Loading.AS_THE_ENGINE
) -> Waits:
    """`jobs` in the order of arrival; there is at least one."""
    queue = _AsTheEngine(machine) if loading is Loading.AS_THE_ENGINE else _Always(machine)
    for job in jobs:
        queue.take(job)
    waits = sorted(queue.waits())
    # One request says nothing of a rate; else n requests come in the time of n - 1 gaps.
    span_s = jobs[-1].arrival_s - jobs[0].arrival_s
    return Waits(
        mean_s=math.fsum(waits) / len(waits),
        p50_s=_quantile(waits, 0.5),
        p90_s=_quantile(waits, 0.9),
        p99_s=_quantile(waits, 0.99),
        device_load=queue.busy_s / span_s if span_s else 0.0,
        disk_load=queue.read_tokens / machine.disk / span_s if span_s else 0.0,
        read_tokens=int(queue.read_tokens),
        computed_instead_tokens=int(queue.computed_tokens),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The least that so many do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class _Queue:
    """The device and the disk, and what they have done."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._disk_free_s = 0.0
        self._device_free_s = 0.0
        self.busy_s = 0.0
        self.read_tokens = 0.0
        self.computed_tokens = 0.0

    def take(self, job: Job) -> None:
        raise AssertionError("one of the two below")

    def waits(self) -> list[float]:
        raise AssertionError("one of the two below")

    def _read(self, tokens: float, begin_s: float) -> float:
        """When it ends."""
        if tokens <= 0:
            return begin_s
        self.read_tokens += tokens
        self._disk_free_s = begin_s + tokens / self._machine.disk
        return self._disk_free_s

    def _copy_s(self, job: Job) -> float:
        return job.l2_tokens / self._machine.l2

    def _rest_s(self, job: Job) -> float:
        """What is in no tier; at least the last token."""
        rest = max(1, job.input_tokens - job.found_tokens)
        return self._machine.compute_s(rest, job.found_tokens)


class _AsTheEngine(_Queue):
    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._waits: list[float] = []

    def waits(self) -> list[float]:
        return self._waits

    def take(self, job: Job) -> None:
        machine = self._machine
        start_s = max(job.arrival_s, self._device_free_s)
        disk_s = max(job.arrival_s, self._disk_free_s)
        context = job.found_tokens - job.l3_tokens
        front = self._computed_front(job, start_s, disk_s) if job.l3_tokens else 0.0
        loaded_s = self._read(job.l3_tokens - front, disk_s)
        work_s = self._copy_s(job) + machine.compute_s(front, context)
        rest_s = self._rest_s(job)
        end_s = max(start_s + work_s, loaded_s) + rest_s
        self.computed_tokens += front
        self.busy_s += work_s + rest_s
        self._device_free_s = end_s
        self._waits.append(end_s - job.arrival_s)

    def _computed_front(self, job: Job, start_s: float, disk_s: float) -> float:
        """Of the tokens on disk, how many are computed from the front."""
        machine, page = self._machine, self._machine.page_tokens
        loaded = max(0.0, start_s - disk_s) * machine.disk
        coming = math.ceil(max(0.0, job.l3_tokens - loaded) / page)
        assert disk_s <= start_s, "the device has waited for all reads of earlier requests"
        compute = machine.rate_at(job.found_tokens - job.l3_tokens / 2)
        rates = PageRates(compute / page, machine.disk / page)
        return min(job.l3_tokens, page * pages_to_compute(coming, 0, 0, rates))


class _Always(_Queue):
    """A request that waits for the disk lets others pass."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._ready: list[tuple[float, int, float, float]] = []  # when, order, arrival, work

    def take(self, job: Job) -> None:
        loaded_s = self._read(job.l3_tokens, max(job.arrival_s, self._disk_free_s))
        work_s = self._copy_s(job) + self._rest_s(job)
        ready_s = max(job.arrival_s, loaded_s if job.l3_tokens else 0.0)
        self._ready.append((ready_s, len(self._ready), job.arrival_s, work_s))
        self.busy_s += work_s

    def waits(self) -> list[float]:
        free_s, waits = 0.0, []
        for ready_s, _, arrival_s, work_s in sorted(self._ready):
            free_s = max(free_s, ready_s) + work_s
            waits.append(free_s - arrival_s)
        return waits
