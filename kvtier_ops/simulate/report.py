"""A simulation as a table, for a terminal of any width from 60 columns."""

from __future__ import annotations

import math

from kvtier_ops.simulate.findings import down, points
from kvtier_ops.simulate.result import DiskResult, Result, SweepResult, WaitResult
from kvtier_ops.text import report_width, wrapped
from kvtier_ops.units import format_bytes

_DAYS_SHOWN = 7


def render(result: Result, width: int) -> str:
    """Plain text; no line is longer than `width` but for the trace's name."""
    width = report_width(width)
    parts = [_head(result, width), _tiers(result, width)]
    if result.waits:
        parts.append(_waits(result.waits))
        parts.append(_rates(result, width))
    if result.disk is not None:
        parts.append(_disk(result.disk))
    parts += [_sweep(sweep, width) for sweep in result.sweeps]
    parts.append(_sentences("", result.findings, width))
    parts.append(_sentences("note: ", result.notes, width))
    return "\n\n".join(part for part in parts if part)


def _head(result: Result, width: int) -> str:
    trace = result.trace
    lasted = f" in {duration(trace.duration_s)}" if trace.has_times else ""
    rows = [
        ("trace", f"{trace.name}: {trace.requests:,} requests{lasted}, "
         f"{trace.input_tokens:,} prompt tokens in blocks of {trace.block_tokens}"),
        ("KV", f"{result.token_bytes:,} bytes a token; all different full blocks are "
         f"{format_bytes(trace.unique_bytes)}"),
    ]  # fmt: skip
    if trace.speed != 1:
        rows.append(("speed", f"requests come {trace.speed:g} times as fast as in the trace"))
    return "\n".join(line for name, text in rows for line in wrapped(f"{name:<7}", text, width))


def _tiers(result: Result, width: int) -> str:
    cells = width - 40
    rates = result.hit_rates
    rows = [
        (tier.name.upper(), format_bytes(tier.bytes), f"{tier.tokens:,}", tier.hit_rate)
        for tier in result.tiers
        if tier.tokens
    ]
    rows.append(("all", "", "", rates.all_tiers))
    rows.append(("infinite", "", "", rates.infinite))
    lines = [f"{'tier':<8}{'size':>10}{'tokens':>14}  of prompts"]
    begin = 0.0
    for name, size, tokens, rate in rows:
        is_part = bool(size)
        bar = _bar(rate, cells, begin if is_part else 0.0)
        begin += rate if is_part else 0.0
        lines.append(f"{name:<8}{size:>10}{tokens:>14}{points(rate):>6} % {bar}".rstrip())
    lines += wrapped(
        "",
        f"L1 and L2 alone find {points(rates.memory)} %; told which blocks are used no more, they "
        f"would find {points(rates.told)} % (hints of a session's end tell), and "
        f"{points(rates.optimum)} % if they knew the future.",
        width,
    )
    return "\n".join(lines)


def _waits(waits: list[WaitResult]) -> str:
    heads = "".join(f"{name:>9}" for name in ("mean", "p50", "p90", "p99"))
    lines = [f"{'first token after':<18}{heads}{'device':>8}{'disk':>6}"]
    for wait in waits:
        name = " + ".join(tier.upper() for tier in wait.tiers) or "no cache"
        times = "".join(
            f"{seconds(time):>9}" for time in (wait.mean_s, wait.p50_s, wait.p90_s, wait.p99_s)
        )
        device, disk = (_load(load) for load in (wait.device_load, wait.disk_load))
        lines.append(f"{name:<18}{times}{device:>8}{disk:>6}")
    return "\n".join(lines)


def _load(load: float) -> str:
    return f"{math.floor(load * 100)}%" if load < 10 else ">999%"


def _rates(result: Result, width: int) -> str:
    lines = []
    for row in result.rates:
        lines += wrapped(f"  {row.what:<11}{row.rate:>18}  ", row.source, width)
    return "\n".join(["rates", *lines])


def _disk(disk: DiskResult) -> str:
    lines = [
        f"disk: {format_bytes(disk.written_bytes)} written, {format_bytes(disk.read_bytes)} found "
        "there alone",
    ]
    if disk.drive_writes_per_day:  # none: the trace has no times
        lines.append(
            f"  {down(disk.drive_writes_per_day)} drive writes a day at this pace; rated for "
            f"{disk.rated_drive_writes_per_day:g}"
        )
    if len(disk.days) > 1:
        for day in disk.days[:_DAYS_SHOWN]:
            lines.append(
                f"  day {day.day + 1}: {format_bytes(day.written_bytes)} written, "
                f"{format_bytes(day.read_bytes)} read"
            )
        if len(disk.days) > _DAYS_SHOWN:
            lines.append(f"  and {len(disk.days) - _DAYS_SHOWN} days more (`--json` has all)")
    return "\n".join(lines)


def _sweep(sweep: SweepResult, width: int) -> str:
    cells = width - 34
    lines = [f"hit rate by the size of {sweep.tier.upper()}"]
    for point in sweep.points:
        marks = ["planned"] * point.is_planned + ["knee"] * (point.bytes == sweep.knee_bytes)
        size, rate = format_bytes(point.bytes), points(point.hit_rate)
        bar = _bar(point.hit_rate, cells)
        lines.append(f"  {size:>10}{rate:>6} % {', '.join(marks):<13} {bar}".rstrip())
    return "\n".join(lines)


def _sentences(prefix: str, sentences: list[str], width: int) -> str:
    return "\n".join(line for text in sentences for line in wrapped(prefix, text, width, hang=2))


def _bar(rate: float, cells: int, begin: float = 0.0) -> str:
    first, last = int(begin * cells), int((begin + rate) * cells)
    return " " * first + "#" * (last - first)


def duration(seconds: float) -> str:
    """For reading: `58 min 56 s`."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 172800:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days {whole % 86400 // 3600} h"


def seconds(value: float) -> str:
    """Three digits or so, at most eight characters: `12 ms`, `1.34 s`, `903 s`, `41.3 h`."""
    if value >= 1e5:
        hours = value / 3600
        return f"{hours:.1f} h" if hours < 1e4 else f"{hours / 24:.3g} d"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return (
        f"{value:.2f} s" if value < 10 else f"{value:.1f} s" if value < 100 else f"{value:,.0f} s"
    )
