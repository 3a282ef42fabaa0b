"""A kernel of files: settings below a folder, which take what they are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.tune.apply import Result, Tuner
from kvtier_ops.tune.change import Change, Kind, Setting
from kvtier_ops.tune.journal import Entry, open_journal
from kvtier_ops.tune.owner import Owner, operator
from kvtier_ops.tune.undo import PutBack, put_back

OPERATOR = operator("small")
THP = "/sys/kernel/mm/transparent_hugepage"
CHOICES = ("always", "within_size", "advise", "never", "deny", "none", "mq-deadline", "bfq")


def pool(node: int, kib: int = 2048) -> str:
    return f"/sys/devices/system/node/node{node}/hugepages/hugepages-{kib}kB/nr_hugepages"


@dataclass(frozen=True)
class FakeKernel:
    root: Path

    def put(self, path: str, text: object) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
        return file

    def choose(self, path: str, word: str, words: tuple[str, ...] = CHOICES) -> None:
        self.put(path, " ".join(f"[{each}]" if each == word else each for each in words))

    def says(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text().strip()

    def apply(self, changes: list[Change], owner: Owner = OPERATOR) -> list[Result]:
        with open_journal(self.root) as journal:
            return Tuner(journal, owner, "sudo kvtier", self.root).apply(changes)

    def undo(self, which: Callable[[Entry], bool] = lambda entry: True) -> list[PutBack]:
        with open_journal(self.root) as journal:
            return put_back(journal, which, self.root)


def more_pages(path: str, old: int, new: int) -> Change:
    return Change(Setting(path, Kind.COUNT), str(old), str(new), "L2", "KVT-P011", is_needed=True)


def number(path: str, old: int, new: int) -> Change:
    return Change(Setting(path, Kind.NUMBER), str(old), str(new), "weights", "KVT-D404")


READAHEAD = "/sys/block/vda/queue/read_ahead_kb"
# Of a kernel as `small_kernel` makes it.
CHANGES = [more_pages(pool(0), 10, 300), more_pages(pool(1), 20, 120), number(READAHEAD, 128, 4096)]


def small_kernel(root: Path) -> FakeKernel:
    made = FakeKernel(root)
    made.put("/proc/sys/kernel/random/boot_id", "one")
    made.put(pool(0), 10)
    made.put(pool(1), 20)
    made.put(READAHEAD, 128)
    return made


def state(kernel: FakeKernel) -> tuple[str, str, str]:
    return kernel.says(pool(0)), kernel.says(pool(1)), kernel.says(READAHEAD)
