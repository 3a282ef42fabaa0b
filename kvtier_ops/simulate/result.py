"""What a simulation says: the document of `kvtier simulate --json`.

Fields are only ever added; `version` changes when one changes its meaning. Rates are shares of all
prompt tokens, from 0 to 1; times are seconds, sizes bytes.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

VERSION = 1
TierName = Literal["l1", "l2", "l3"]


class TraceFacts(msgspec.Struct, frozen=True):
    """`block_tokens`: of the file; `late_lines`: that stood behind one that came later."""

    name: str
    requests: int
    has_times: bool
    duration_s: float  # 0: not known
    speed: float  # requests arrive so many times as fast as in the file
    input_tokens: int
    output_tokens: int
    block_tokens: int
    unique_bytes: int  # KV of all different full blocks
    bad_lines: int
    late_lines: int


class TierResult(msgspec.Struct, frozen=True):
    """`hit_tokens`: that no tier above has."""

    name: TierName
    bytes: int
    tokens: int
    hit_tokens: int
    hit_rate: float


class HitRates(msgspec.Struct, frozen=True):
    """`told` and `optimum`: of L1 and L2 at their size, if requests said which blocks are used no
    more, and if everything were known."""

    all_tiers: float
    memory: float  # L1 and L2
    infinite: float
    told: float
    optimum: float


class WaitResult(msgspec.Struct, frozen=True):
    """Time to first token with these tiers; loads are work over time, above 1: overloaded."""

    tiers: list[TierName]
    mean_s: float
    p50_s: float
    p90_s: float
    p99_s: float
    device_load: float
    disk_load: float  # of reads
    read_bytes: int
    computed_instead_tokens: int  # that were on disk, where computing was quicker


class RateResult(msgspec.Struct, frozen=True):
    what: str
    rate: str
    source: str


class DayResult(msgspec.Struct, frozen=True):
    day: int  # from 0
    read_bytes: int
    written_bytes: int


class DiskResult(msgspec.Struct, frozen=True):
    """`read_bytes`: of all that was found in L3 alone; what is computed instead is not read.
    `drive_writes_per_day`: the size of its drives so many times, at the trace's pace."""

    read_bytes: int
    written_bytes: int
    written_per_read: float | None  # None: nothing was read
    drive_writes_per_day: float
    rated_drive_writes_per_day: float
    write_load: float  # as `disk_load`
    unsaved_bytes: int  # that the disk was too slow to take
    not_admitted: int  # times that a block was refused
    days: list[DayResult]


class PointResult(msgspec.Struct, frozen=True):
    bytes: int
    hit_rate: float
    is_planned: bool


class SweepResult(msgspec.Struct, frozen=True):
    """Hit rates of other sizes under LRU, in doublings. `knee_bytes`: the least size from which on
    no doubling buys a point; None: beyond those swept."""

    tier: Literal["l2", "l3"]
    points: list[PointResult]
    knee_bytes: int | None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. `waits` is empty where arrivals or rates are not known."""

    version: int = VERSION
    trace: TraceFacts
    simulated_block_tokens: int
    page_tokens: int
    token_bytes: int
    tiers: list[TierResult]
    hit_rates: HitRates
    waits: list[WaitResult]
    rates: list[RateResult]
    disk: DiskResult | None
    sweeps: list[SweepResult]
    findings: list[str]  # sentences: what more of a tier would buy
    notes: list[str]  # sentences: how far to trust all this

    def as_json(self) -> dict[str, Any]:
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document


def json_schema() -> dict[str, Any]:
    """Of the document."""
    return msgspec.json.schema(Result)
