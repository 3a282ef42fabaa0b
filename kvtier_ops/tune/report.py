"""What tune would do, did, and could not do, in lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvtier_ops.text import report_width, wrapped
from kvtier_ops.tune.apply import Result
from kvtier_ops.tune.change import Change
from kvtier_ops.tune.limits import Raised

_INDENT = " " * 10


def render_changes(changes: Sequence[Change], width: int) -> list[str]:
    """Every change as old -> new, with its reason."""
    width = report_width(width)
    lines = []
    for change in changes:
        lines += [f"{change.mends:<10}{change.path}", f"{_INDENT}{change.old} -> {change.new}"]
        lines += wrapped(_INDENT, change.why, width)
    return lines


def render_results(results: Sequence[Result], width: int) -> list[str]:
    width = report_width(width)
    lines = []
    for result in results:
        change = result.change
        if result.ok:
            lines.append(f"changed   {change.path}: {change.old} -> {change.new}")
        else:
            lines.append(f"{'FAILED' if change.is_needed else 'not done':<10}{change.path}")
            lines += wrapped(_INDENT, result.error, width)
            lines += wrapped(_INDENT + "fix: ", result.hint, width) if result.hint else []
        lines += wrapped(_INDENT, change.why, width)
    return lines


def render_limits(raised: Sequence[Raised]) -> Iterator[str]:
    """Of the engine's processes."""
    for each in raised:
        if each.old != each.new:
            yield f"{each.name}: {each.old} -> {each.new}"
        if each.error:
            yield f"{each.name}: {each.error}; {each.hint}"
