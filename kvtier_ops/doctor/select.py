"""`--only`, `--skip` and `--explain`: names that operators type, to entries of the registry."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvtier_ops.doctor.registry import ENTRIES, GROUPS, Entry
from kvtier_ops.errors import BadInput
from kvtier_ops.text import shortened

_PREFIX = "KVT-"


@dataclass(frozen=True)
class Selection:
    """`ids`: those to leave in; None: all. `skipped`: those that `--skip` named."""

    ids: frozenset[str] | None = None
    skipped: frozenset[str] = frozenset()

    def has(self, id: str) -> bool:
        return self.ids is None or id in self.ids


_KNOWN = frozenset(entry.id for entry in ENTRIES)
ALL = Selection()


def select(only: Sequence[str] = (), skip: Sequence[str] = ()) -> Selection:
    """Raises BadInput for a name that is of nothing, and if nothing is left."""
    if not only and not skip:
        return ALL
    chosen, skipped = _ids(only, "--only") if only else set(_KNOWN), _ids(skip, "--skip")
    left = chosen - skipped
    if not left:
        raise BadInput(
            "`--skip` takes away all that `--only` names",
            "`kvtier doctor --list` shows what there is",
        )
    return Selection(frozenset(left), frozenset(skipped))


def _ids(names: Iterable[str], option: str) -> set[str]:
    found: set[str] = set()
    for name in names:
        matching = named(name, option)
        told = [entry for entry in matching if entry.told_by]
        if told and len(told) == len(matching):
            raise BadInput(
                f"`{told[0].id}` is told by the check {told[0].told_by}",
                f"write `{option} {told[0].told_by}`",
                place=option,
            )
        found |= {entry.id for entry in matching}
    return found


def named(name: str, option: str) -> list[Entry]:
    """By group, id or the beginning of ids, whose `KVT-` may be left out. Raises BadInput."""
    text = name.strip()
    if text.lower() in GROUPS:
        return [entry for entry in ENTRIES if entry.group == text.lower()]
    start = text.upper()
    if start and not start.startswith(_PREFIX):
        start = _PREFIX + start
    matching = [entry for entry in ENTRIES if start and entry.id.startswith(start)]
    if not matching:
        raise BadInput(
            f"`{shortened(text, 40)}` is no check and no group of checks{_meant(text)}",
            f"groups are {', '.join(GROUPS)}; `kvtier doctor --list` shows all checks",
            place=option,
        )
    return matching


def _meant(text: str) -> str:
    names = [*GROUPS, *sorted(_KNOWN)]
    for spelled in (text.lower(), text.upper(), _PREFIX + text.upper()):
        close = difflib.get_close_matches(spelled[:40], names, 1, 0.6)
        if close:
            return f": did you mean `{close[0]}`?"
    return ""
