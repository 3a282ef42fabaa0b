"""Puts back what the journal says was changed. Doing it twice changes nothing more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.tune.change import Kind
from kvtier_ops.tune.journal import Entry, Journal
from kvtier_ops.tune.uninterrupted import uninterrupted


@dataclass(frozen=True)
class PutBack:
    """What became of one entry. `error`: it stays in the journal."""

    entry: Entry
    before: str = ""
    after: str = ""
    note: str = ""
    error: str = ""

    @property
    def changed(self) -> bool:
        return self.before != self.after

    @property
    def line(self) -> str:
        """For the operator."""
        path = self.entry.setting.path
        if self.error:
            return f"{path}: NOT put back: {self.error}"
        if self.note:
            return f"{path} {self.note}"
        return f"{path}: {self.before} -> {self.after}" if self.changed else f"{path}: {self.after}"


def put_back(journal: Journal, which: Callable[[Entry], bool], root: Path) -> list[PutBack]:
    """The latest change first; a stop signal waits. Raises HostError if the journal cannot be
    written."""
    chosen = [entry for entry in reversed(journal.entries) if which(entry)]
    with uninterrupted():
        return [_put_back(journal, entry, root) for entry in chosen]


def put_back_stale(journal: Journal, root: Path) -> list[PutBack]:
    """Of launchers that were killed."""
    return put_back(journal, is_stale, root)


def is_stale(entry: Entry) -> bool:
    return not entry.owner.is_operator and not entry.owner.is_alive


def _put_back(journal: Journal, entry: Entry, root: Path) -> PutBack:
    try:
        current = entry.setting.read(root)
    except FileNotFoundError:
        journal.remove(entry)
        return PutBack(entry, note="is not there any more")
    except (OSError, ValueError) as error:
        return PutBack(entry, error=f"cannot be read: {error}")
    try:
        if entry.setting.kind is Kind.COUNT:
            return _take_away(journal, entry, int(current), root)
        return _restore(journal, entry, current, root)
    except OSError as error:
        return PutBack(entry, current, current, error=error.strerror or str(error))


def _take_away(journal: Journal, entry: Entry, current: int, root: Path) -> PutBack:
    """As many as were added, whatever others have added or taken since."""
    if entry.back_to is None:
        old, new = int(entry.old), int(entry.new)
        # Killed in the middle: what is above the old value is ours, up to what was wanted.
        added = int(entry.got) - old if entry.got is not None else min(current, new) - old
        entry = journal.update(entry, back_to=str(max(0, current - max(0, added))))
    assert entry.back_to is not None
    target = min(int(entry.back_to), current)
    if target != current:
        entry.setting.write(root, str(target))
    after = entry.setting.read(root)
    if after != str(target):
        return PutBack(entry, str(current), after, error=f"the kernel gives back only to {after}")
    journal.remove(entry)
    return PutBack(entry, str(current), after)


def _restore(journal: Journal, entry: Entry, current: str, root: Path) -> PutBack:
    """The old value, unless another still wants the new one or somebody else set a third."""
    others = journal.others_on(entry)
    if others:
        journal.remove(entry)
        names = ", ".join(dict.fromkeys(each.owner.name for each in others))
        return PutBack(entry, current, current, note=f"is still wanted by {names}")
    if current in (entry.new, entry.got) and current != entry.old:  # the kernel may round
        entry.setting.write(root, entry.old)
        journal.remove(entry)
        return PutBack(entry, current, entry.old)
    journal.remove(entry)
    if current == entry.old:
        return PutBack(entry, current, current)
    note = f"is `{current}` now, which kvtier did not set: left as it is"
    return PutBack(entry, current, current, note=note)
