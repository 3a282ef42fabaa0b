"""What tune would do, did, and could not do, in lines."""

from __future__ import annotations

from collections.abc import Sequence

from kvtier_ops.text import report_width, wrapped
from kvtier_ops.tune.apply import Result
from kvtier_ops.tune.change import Change
from kvtier_ops.tune.journal import Journal
from kvtier_ops.tune.undo import is_stale

_INDENT = " " * 10


def render_changes(changes: Sequence[Change], width: int) -> list[str]:
    """Every change as old -> new, with its reason."""
    width = report_width(width)
    lines = []
    for change in changes:
        lines += [f"{change.mends:<10}{change.path}", f"{_INDENT}{change.old} -> {change.new}"]
        lines += wrapped(_INDENT, change.why, width)
    return lines


def render_stale(journal: Journal) -> list[str]:
    """What comes before all changes: launchers that were killed have left it."""
    lines = [entry.line for entry in reversed(journal.entries) if is_stale(entry)]
    if not lines:
        return []
    return [
        "warning: a killed launcher has left changes, which are put back first; more may be "
        "missing then than is shown here",
        *(f"  {line}" for line in lines),
        "hint: `kvtier tune --undo` puts them back now",
    ]


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
