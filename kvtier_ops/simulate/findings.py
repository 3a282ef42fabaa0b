"""Sentences: what more of a tier would buy, and how far to trust the figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from kvtier_ops.simulate.result import Result, SweepResult
from kvtier_ops.simulate.setup import Setup
from kvtier_ops.units import UNITS, format_bytes

_DISK_TO_BUY = UNITS["TB"]
_L2_TO_BUY = 64 * UNITS["GiB"]

RateOf = Callable[[int], float]  # of an LRU cache for so many tokens


def add_to(result: Result, setup: Setup, rate_of: RateOf) -> Result:
    """The result with its sentences. Nothing that is said is more than what was computed."""
    said = _has(result) + _buys(setup, rate_of) + [_knee(sweep, result) for sweep in result.sweeps]
    said += _overloads(result) + _wear(result)
    return msgspec.structs.replace(result, findings=said, notes=_notes(result, setup))


def points(rate: float) -> str:
    """0.3142 -> `31.4`: never more than it is."""
    return f"{math.floor(rate * 1000 + 1e-9) / 10:.1f}"


def _has(result: Result) -> list[str]:
    disk = result.tiers[2]
    if not disk.tokens:
        return []
    more = result.hit_rates.all_tiers - result.hit_rates.memory
    return [f"L3 of {_size(disk.bytes)} finds {points(more)} points more than L1 and L2"]


def _buys(setup: Setup, rate_of: RateOf) -> list[str]:
    l1, l2, l3 = setup.l1.tokens, setup.l2.tokens, setup.l3.tokens
    size = setup.token_bytes
    more = l2 or _L2_TO_BUY // size
    l2_gain = rate_of(max(l1, l2 + more)) - rate_of(max(l1, l2))
    disk = l3 or _DISK_TO_BUY // size
    memory = max(l1, l2)
    l3_gain = rate_of(max(memory, l3 + disk)) - rate_of(max(memory, l3))
    is_more = " more" if l3 else ""
    return [
        f"{_size(more * size)} more of L2 buys {points(l2_gain)} points of hit rate"
        + (", without L3" if l3 else ""),
        f"{_size(disk * size)}{is_more} of disk buys {points(l3_gain)} points",
    ]


def _knee(sweep: SweepResult, result: Result) -> str:
    name, last = sweep.tier.upper(), sweep.points[-1]
    ceiling = f"; no cache finds more than {points(result.hit_rates.infinite)} %"
    if sweep.knee_bytes is None:
        return f"{name} pays up to {_size(last.bytes)} and beyond{ceiling}"
    if sweep.knee_bytes == sweep.points[0].bytes:
        return f"{name} above {_size(sweep.knee_bytes)} buys less than a point a doubling{ceiling}"
    return f"{name} pays up to {_size(sweep.knee_bytes)}: beyond, no doubling buys a point{ceiling}"


def _overloads(result: Result) -> list[str]:
    said = []
    over = [wait for wait in result.waits if wait.device_load > 1]
    if over:
        loads = ", ".join(
            f"{down(wait.device_load)} times with {_tiers(wait.tiers)}" for wait in over
        )
        said.append(
            f"overloaded: prompts need more than the device computes, {loads}; waits grow for as "
            "long as requests come"
        )
    full = [wait for wait in result.waits if wait.disk_load > 1]
    if full:
        said.append(
            f"the disk is overloaded: reads need {down(full[-1].disk_load)} times what it gives"
        )
    return said


def _wear(result: Result) -> list[str]:
    disk = result.disk
    if disk is None:
        return []
    said = []
    if disk.drive_writes_per_day > disk.rated_drive_writes_per_day:
        said.append(
            f"the disk wears: its drives are written {down(disk.drive_writes_per_day)} times a "
            f"day, and are rated for {disk.rated_drive_writes_per_day:g}; see "
            "`tiers.l3.write_bytes_per_day`"
        )
    if disk.unsaved_bytes:
        whole = disk.unsaved_bytes + disk.written_bytes
        said.append(
            f"the disk is too slow: {points(disk.unsaved_bytes / whole)} % of what L2 lost was "
            "not written"
        )
    return said


def _notes(result: Result, setup: Setup) -> list[str]:
    trace, block = result.trace, result.simulated_block_tokens
    notes = []
    if block > setup.page_tokens:
        notes.append(
            f"the trace has blocks of {trace.block_tokens} tokens, the cache pages of "
            f"{setup.page_tokens}: hits are counted in whole blocks, and are a little more in truth"
        )
    elif block != trace.block_tokens:
        notes.append(
            f"blocks of {trace.block_tokens} tokens are taken together to {block}, as pages have "
            f"{setup.page_tokens}"
        )
    if trace.late_lines:
        notes.append(f"{trace.late_lines:,} lines were not in the order of their timestamps")
    if trace.bad_lines:
        notes.append(f"{trace.bad_lines:,} lines were bad, and are left out")
    if not result.waits:
        notes.append(
            "no times: "
            + (
                "tell `--prefill-tokens-per-s`, or a profile"
                if trace.has_times
                else "the trace has no timestamps"
            )
        )
    assumed = [row.what for row in result.rates if row.source.startswith("assumed")]
    if assumed:
        notes.append(f"assumed, not measured: {', '.join(assumed)}")
    if setup.l1.eviction != "lru" or setup.l2.eviction != "lru":
        notes.append("other sizes are those of LRU, the planned ones those of the profile's policy")
    notes.append(
        "other sizes of L3 are those of one that everything is written to at once, "
        "however slow its disk"
    )
    return notes


def _size(count: int) -> str:
    """In the units that the size is round in: `1 TB`, `64 GiB`."""
    for unit in ("PB", "TB", "GB"):
        if count >= UNITS[unit] and count % UNITS[unit] == 0:
            return f"{count // UNITS[unit]} {unit}"
    return format_bytes(count)


def _tiers(names: Sequence[str]) -> str:
    return " + ".join(name.upper() for name in names) or "no cache"


def down(value: float) -> str:
    """Two digits after the point, and not more than it is."""
    return f"{math.floor(value * 100 + 1e-9) / 100:.2f}"
