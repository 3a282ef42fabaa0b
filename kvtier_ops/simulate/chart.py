"""A simulation as a picture: SVG that needs nothing else, for a browser or a document."""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

from kvtier_ops.simulate.findings import points
from kvtier_ops.simulate.report import seconds
from kvtier_ops.simulate.result import Result, SweepResult
from kvtier_ops.units import format_bytes

WIDTH = 760
_LEFT, _RIGHT = 90, 30
_PLOT = WIDTH - _LEFT - _RIGHT
_PANEL = 230
_COLOURS = {"l1": "#1b5e91", "l2": "#2f9e77", "l3": "#d98a29"}
_STYLE = (
    "text{font:13px sans-serif;fill:#222}.t{font-size:15px;font-weight:bold}.s{font-size:11px}"
    ".g{stroke:#ddd}.a{stroke:#888}"
)


def render_svg(result: Result) -> str:
    """One panel for the hit rate by tier, one for the waits, one for each sweep."""
    panels = [_tiers(result)]
    if result.waits:
        panels.append(_waits(result))
    panels += [_sweep(sweep, result.hit_rates.infinite) for sweep in result.sweeps]
    parts, top = [], 10
    for body, height in panels:
        parts.append(f'<g transform="translate(0,{top})">{body}</g>')
        top += height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" '
        f'viewBox="0 0 {WIDTH} {top}"><style>{_STYLE}</style>'
        f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "g") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
    )


def _tiers(result: Result) -> tuple[str, int]:
    """One bar of all prompt tokens."""
    body = [_text(_LEFT, 20, f"Hit rate of {result.trace.name}", "t")]
    body.append(_rectangle(_LEFT, 34, _PLOT, 26, "#eee"))
    x = float(_LEFT)
    labels = []
    for tier in result.tiers:
        width = tier.hit_rate * _PLOT
        body.append(_rectangle(x, 34, width, 26, _COLOURS[tier.name]))
        x += width
        if tier.tokens:
            size = format_bytes(tier.bytes)
            labels.append((tier.name, f"{tier.name.upper()} {size}: {points(tier.hit_rate)} %"))
    ceiling = _LEFT + result.hit_rates.infinite * _PLOT
    body.append(_line(ceiling, 28, ceiling, 66, "a"))
    for number, (name, label) in enumerate(labels):
        left = _LEFT + number * _PLOT / 3
        body.append(_rectangle(left, 78, 10, 10, _COLOURS[name]))
        body.append(_text(left + 15, 88, label))
    infinite = points(result.hit_rates.infinite)
    body.append(_text(_LEFT, 108, f"line: an infinite cache, {infinite} %", "s"))
    return "".join(body), 135


def _waits(result: Result) -> tuple[str, int]:
    """Mean and 99th percentile, a pair of bars for each set of tiers."""
    body = [_text(_LEFT, 20, "Time to first token: mean, and 99th percentile", "t")]
    longest = max(wait.p99_s for wait in result.waits) or 1.0
    room, y = _PLOT - 90, 34
    for wait in result.waits:
        name = "+".join(tier.upper() for tier in wait.tiers) or "no cache"
        body.append(_text(_LEFT - 6, y + 18, name, "", "end"))
        for offset, value, colour in ((0, wait.mean_s, "#1b5e91"), (13, wait.p99_s, "#9fc3dd")):
            width = max(1.0, min(room, value / max(longest, wait.mean_s) * room))
            body.append(_rectangle(_LEFT, y + offset, width, 11, colour))
            body.append(_text(_LEFT + width + 5, y + offset + 10, seconds(value), "s"))
        y += 34
    return "".join(body), y + 16


def _sweep(sweep: SweepResult, infinite: float) -> tuple[str, int]:
    """Hit rate over the size, the latter in doublings."""
    name = sweep.tier.upper()
    top, bottom = 36, _PANEL - 50
    body = [_text(_LEFT, 20, f"Hit rate by the size of {name}", "t")]
    highest = max(0.05, infinite)

    def y_of(rate: float) -> float:
        return bottom - rate / highest * (bottom - top)

    first, last = sweep.points[0].bytes, sweep.points[-1].bytes
    span = math.log2(last / first) or 1.0
    for step in range(5):
        rate = highest * step / 4
        body.append(_line(_LEFT, y_of(rate), _LEFT + _PLOT, y_of(rate)))
        body.append(_text(_LEFT - 6, y_of(rate) + 4, f"{points(rate)} %", "s", "end"))
    places = [
        (_LEFT + math.log2(point.bytes / first) / span * _PLOT, y_of(point.hit_rate))
        for point in sweep.points
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    colour = _COLOURS[sweep.tier]
    body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    every = max(1, math.ceil(len(places) / 8))
    for number, ((x, y), point) in enumerate(zip(places, sweep.points, strict=True)):
        radius = 6 if point.is_planned else 3
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>')
        if number % every == 0:
            body.append(_text(x, bottom + 18, format_bytes(point.bytes), "s", "middle"))
        if point.bytes == sweep.knee_bytes:
            body.append(_line(x, top, x, bottom, "a"))
            body.append(_text(x - 4, bottom - 6, "knee", "s", "end"))
    return "".join(body), _PANEL
