"""`kvtier plan --html FILE`: the plan as one page that needs nothing else, with charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from kvtier_ops.plan.report import model_rows, place_of, sourced
from kvtier_ops.plan.types import BreakEven, MemoryPlan, Plan
from kvtier_ops.units import format_bytes, format_decimal

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
_CHART_WIDTH, _CHART_HEIGHT = 640, 220

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.warning { background: var(--soft); border-left: 4px solid #cc8800; padding: .5rem 1rem;
  margin: .5rem 0; }
svg { width: 100%; height: auto; } svg text { fill: currentColor; font-size: 12px; }
.key { display: inline-block; width: .8em; height: .8em; margin-right: .4em; }
code { background: var(--soft); padding: 0 .25em; }
"""


def render_html(plan: Plan) -> str:
    parts = [
        f"<h1>kvtier plan: {escape(plan.served_name)}</h1>",
        *_warnings(plan),
        _table((), [(name, text) for name, text in model_rows(plan)]),
        "<h2>Tiers</h2>",
        _tiers(plan),
    ]
    for memory in plan.memories:
        parts += [f"<h2>Where {escape(memory.place)} goes</h2>", _memory(memory)]
    parts += ["<h2>How many sequences fit</h2>", _conversations(plan)]
    parts += ["<h2>How fast</h2>", _rates(plan)]
    if plan.answers.break_even:
        parts += ["<h2>When the disk pays</h2>", _break_even(plan)]
    if plan.hugepages:
        parts += ["<h2>Hugepages</h2>", _hugepages(plan)]
    body = "\n".join(parts)
    title = escape(f"kvtier plan: {plan.served_name}")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _warnings(plan: Plan) -> list[str]:
    return [
        f'<div class="warning"><b>{warning.id}</b> {escape(warning.what)}<br>'
        f"<i>{escape(warning.hint)}</i></div>"
        for warning in plan.warnings
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Cells are text and are escaped here; columns in `numbers` are set to the right."""

    def row(tag: str, cells: Sequence[str]) -> str:
        marked = (
            f"<{tag}{' class=n' if i in numbers else ''}>{escape(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    lines = [row("th", head)] if head else []
    return f"<table>{''.join([*lines, *(row('td', cells) for cells in rows)])}</table>"


def _tiers(plan: Plan) -> str:
    rows = [
        (
            tier.name.upper(),
            format_bytes(tier.bytes) if tier.pages else "-",
            f"{tier.pages:,}",
            f"{tier.tokens:,}",
            f"{tier.where}: {tier.reason}" if tier.pages else tier.reason,
        )
        for tier in plan.tiers
    ]
    rows += [
        ("", format_bytes(disk.capacity_bytes), "", "", f"{disk.path} ({disk.on.drive_kind.value})")
        for disk in plan.disks
    ]
    wear = plan.answers.wear
    if wear is not None:
        rows.append(
            (
                "", "", "", "",
                f"written at most {format_decimal(wear.bytes_per_day)} a day ({wear.reason}): "
                f"{wear.drive_writes_per_day:.3g} drive writes, rated for {wear.rated_per_day:g}",
            )
        )  # fmt: skip
    return _table(("tier", "size", "pages", "tokens", "where and why"), rows, (1, 2, 3))


def _memory(memory: MemoryPlan) -> str:
    """One bar of all items, and what each of them is."""
    items = [(item.name, item.bytes, item.reason) for item in memory.items]
    items.append(("left", memory.left_bytes, ""))
    x, bars = 0.0, []
    rows = []
    for number, (name, size, reason) in enumerate(items):
        colour = _COLOURS[number % len(_COLOURS)] if name != "left" else "#8883"
        width = size / memory.usable_bytes * _CHART_WIDTH if memory.usable_bytes else 0
        label = f"{name}: {format_bytes(size)}"
        bars.append(
            f'<rect x="{x:.1f}" y="0" width="{width:.1f}" height="28" fill="{colour}">'
            f"<title>{escape(label)}</title></rect>"
        )
        x += width
        rows.append(
            f'<tr><td><span class="key" style="background:{colour}"></span>{escape(name)}</td>'
            f"<td class=n>{format_bytes(size)}</td><td>{escape(reason)}</td></tr>"
        )
    svg = f'<svg viewBox="0 0 {_CHART_WIDTH} 28" role="img">{"".join(bars)}</svg>'
    return f"{svg}<table>{''.join(rows)}</table>"


def _conversations(plan: Plan) -> str:
    rows = [
        (f"{row.tokens:,}", f"{row.l1:,}", f"{row.l2:,}", f"{row.l3:,}")
        for row in plan.answers.conversations
    ]
    return _table(("tokens", "in L1", "in L2", "in L3"), rows, (0, 1, 2, 3))


def _rates(plan: Plan) -> str:
    rates, arena = plan.answers.rates, plan.answers.arena_s
    prefill, copies = rates.prefill_tokens_per_s, rates.l2_bytes_per_s
    rows = [
        ("prefill", f"{prefill.value:,.0f} tokens/s", sourced(prefill)),
        ("between L1 and L2", f"{format_decimal(copies.value)}/s", sourced(copies)),
        ("start-up of L2", f"{arena.value:,.1f} s", sourced(arena)),
    ]
    for name, figure in (
        ("disk reads", rates.disk_read_bytes_per_s),
        ("disk writes", rates.disk_write_bytes_per_s),
    ):
        if figure is not None:
            rows.append((name, f"{format_decimal(figure.value)}/s", sourced(figure)))
    return _table((), rows, (1,))


def _break_even(plan: Plan) -> str:
    """Bars of what a disk must read, by length of the prompt, and a line for what it does."""
    disk, rows = plan.answers.rates.disk_read_bytes_per_s, plan.answers.break_even
    assert disk is not None
    top = max(disk.value, *(row.bytes_per_s for row in rows)) * 1.15
    step = _CHART_WIDTH / len(rows)
    marks = [_needed(i, row, top, step) for i, row in enumerate(rows)]
    y = _CHART_HEIGHT - 20 - disk.value / top * (_CHART_HEIGHT - 40)
    marks.append(
        f'<line x1="0" x2="{_CHART_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ee6677" '
        f'stroke-width="2"/><text x="{_CHART_WIDTH - 4}" y="{y - 5:.1f}" text-anchor="end">'
        f"the disk: {format_decimal(disk.value)}/s</text>"
    )
    svg = f'<svg viewBox="0 0 {_CHART_WIDTH} {_CHART_HEIGHT}" role="img">{"".join(marks)}</svg>'
    note = "A bar is the rate at which reading is as quick as computing: a disk above it pays."
    return f"{svg}<p>{note}</p>"


def _needed(number: int, row: BreakEven, top: float, step: float) -> str:
    height = row.bytes_per_s / top * (_CHART_HEIGHT - 40)
    x, y = number * step, _CHART_HEIGHT - 20 - height
    return (
        f'<rect x="{x + step * 0.3:.1f}" y="{y:.1f}" width="{step * 0.4:.1f}" '
        f'height="{height:.1f}" fill="#4477aa"/>'
        f'<text x="{x + step / 2:.1f}" y="{y - 5:.1f}" text-anchor="middle">'
        f"{format_decimal(row.bytes_per_s)}/s</text>"
        f'<text x="{x + step / 2:.1f}" y="{_CHART_HEIGHT - 5}" text-anchor="middle">'
        f"{row.context_tokens:,} tokens</text>"
    )


def _hugepages(plan: Plan) -> str:
    rows = [
        (
            place_of(need),
            format_bytes(need.page_bytes),
            f"{need.pages:,}",
            f"{need.reserved:,}",
            f"{need.free:,}",
        )
        for need in plan.hugepages
    ]
    return _table(("where", "size", "needed", "reserved", "free"), rows, (2, 3, 4))
