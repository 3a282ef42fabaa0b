"""Makes changes, each in the journal first. All the hugepages that L2 takes, or none of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.tune.change import Change, Kind
from kvtier_ops.tune.journal import Entry, Journal
from kvtier_ops.tune.owner import Owner
from kvtier_ops.tune.rights import obstacle
from kvtier_ops.tune.undo import put_back

_STEPS = 50  # of a large reservation: each is seen, and can be interrupted
_STEP_PAGES_MIN = 64
# What is tried, one after another, while the kernel finds no more pages in one piece.
_COMPACT = (("compact_memory", "1"),)
_DROP = (("drop_caches", "1"), ("compact_memory", "1"))
_ATTEMPTS = ((), _COMPACT, _DROP)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Result:
    """What became of one change. `error`: it was not made, or was put back; `hint` the way out."""

    change: Change
    error: str = ""
    hint: str = ""

    @property
    def ok(self) -> bool:
        return not self.error


@dataclass(frozen=True)
class Tuner:
    """Who changes what, where. `again`: the command line that does it as root."""

    journal: Journal
    owner: Owner
    again: str
    root: Path = Path("/")
    progress: Progress = lambda stage, done, total: None

    def apply(self, changes: Sequence[Change]) -> list[Result]:
        """What fails is in the results. Interrupted, it puts back what it made before it goes.

        Raises HostError if the journal cannot be written; nothing is changed then.
        """
        before = {entry.number for entry in self.journal.entries}
        try:
            return self._all(changes)
        except BaseException:
            put_back(self.journal, lambda entry: entry.number not in before, self.root)
            raise

    def _all(self, changes: Sequence[Change]) -> list[Result]:
        counts = [change for change in changes if change.setting.kind is Kind.COUNT]
        others = [change for change in changes if change.setting.kind is not Kind.COUNT]
        return [*self._reserve(counts), *(self._set(change) for change in others)]

    def _set(self, change: Change) -> Result:
        ours = self._entry_of(change)
        if ours is not None and _now(change, self.root) == change.new:
            return Result(change)
        blocked = self._blocked(change)
        if blocked is not None:
            return blocked
        if ours is None:
            entry = self.journal.add(change, self.owner)
        else:  # killed before it was made, or somebody else has set it since
            entry = self.journal.update(ours, old=change.old, new=change.new, got=None)
        try:
            if change.setting.read(self.root) != change.new:
                change.setting.write(self.root, change.new)
            got = change.setting.read(self.root)
        except (OSError, ValueError) as error:
            put_back(self.journal, lambda each: each.number == entry.number, self.root)
            return Result(change, f"the kernel refuses: {error}")
        self.journal.update(entry, got=got)
        return Result(change)

    def _entry_of(self, change: Change) -> Entry | None:
        ours = (each for each in self.journal.entries if each.owner == self.owner)
        return next((each for each in ours if each.setting == change.setting), None)

    def _blocked(self, change: Change) -> Result | None:
        found = obstacle(change, self.root, self.again)
        return Result(change, found.what, found.hint) if found else None

    def _reserve(self, changes: Sequence[Change]) -> list[Result]:
        """L2 is mapped as a whole: with one page less it lies in ordinary memory."""
        blocked = [found for change in changes if (found := self._blocked(change))]
        if blocked:
            return blocked
        entries = [self.journal.add(change, self.owner) for change in changes]
        got = [self._grow(entry, change) for entry, change in zip(entries, changes, strict=True)]
        if all(pages >= int(change.new) for pages, change in zip(got, changes, strict=True)):
            return [Result(change) for change in changes]
        ours = {entry.number for entry in entries}
        put_back(self.journal, lambda entry: entry.number in ours, self.root)
        return [
            Result(change, *self._shortfall(change, pages))
            for change, pages in zip(changes, got, strict=True)
        ]

    def _shortfall(self, change: Change, pages: int) -> tuple[str, str]:
        found = max(0, pages - int(change.old))
        return (
            f"got {found:,} of {change.added:,} hugepages, after compacting memory and dropping "
            "the page cache; put back, since L2 takes all or none",
            "stop what uses memory, or reserve them when the host boots: "
            f"`{_boot_parameter(change)}` on the kernel's command line; or make `tiers.l2.size` "
            "smaller, or set `tiers.l2.hugepages: transparent`",
        )

    def _grow(self, entry: Entry, change: Change) -> int:
        """The number of pages that there are in the end."""
        wanted, now = int(change.new), int(change.old)
        for helps in _ATTEMPTS:
            for name, value in helps:
                with suppress(OSError):  # without it there may still be enough
                    (self.root / "proc/sys/vm" / name).write_text(value)
            now = self._grow_while_it_goes(change, now, wanted)
            if now >= wanted:
                break
        self.journal.update(entry, got=str(now))
        return now

    def _grow_while_it_goes(self, change: Change, now: int, wanted: int) -> int:
        step = max(_STEP_PAGES_MIN, change.added // _STEPS)
        while now < wanted:
            target = min(wanted, now + step)
            with suppress(OSError):  # what it could not do is seen below
                change.setting.write(self.root, str(target))
            after = int(change.setting.read(self.root))
            self.progress(_stage(change), max(0, after - int(change.old)), change.added)
            if after < target:
                return after
            now = after
        return now


def _now(change: Change, root: Path) -> str | None:
    try:
        return change.setting.read(root)
    except (OSError, ValueError):
        return None


def _stage(change: Change) -> str:
    """For the progress bar: `hugepages`, or `hugepages node1`."""
    node = next((part for part in change.path.split("/") if re.fullmatch(r"node\d+", part)), "")
    return f"hugepages {node}".rstrip()


def _boot_parameter(change: Change) -> str:
    """What reserves them on every boot (kernel parameters, hugepagesz)."""
    kib = int(change.path.rpartition("hugepages-")[2].partition("kB")[0])
    size = f"{kib >> 20}G" if kib >> 20 else f"{kib >> 10}M"
    return f"hugepagesz={size} hugepages={change.new}"
