"""One change of one kernel setting, and how such settings are read and written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """How a setting is put back."""

    COUNT = "count"  # others add to it as well: what was added is taken away again
    CHOICE = "choice"  # one of several words, as `always [madvise] never`: the old one again
    NUMBER = "number"  # the old one again


@dataclass(frozen=True)
class Setting:
    """A file of the kernel's, by its absolute path on the host (`/sys/...`)."""

    path: str
    kind: Kind

    def read(self, root: Path) -> str:
        """Its value in one word; of reserved hugepages those that stay when nobody uses them.
        Raises OSError or ValueError."""
        file = self.below(root)
        text = file.read_text().strip()
        if self.kind is Kind.CHOICE:
            chosen = text.partition("[")[2].partition("]")[0]
            return chosen or text
        if self.kind is Kind.NUMBER:
            return str(int(text))
        surplus = file.with_name("surplus_hugepages")
        borrowed = int(surplus.read_text()) if surplus.exists() else 0
        return str(int(text) - borrowed)

    def write(self, root: Path, value: str) -> None:
        """Raises OSError."""
        self.below(root).write_text(value)

    def below(self, root: Path) -> Path:
        return root / self.path.lstrip("/")


@dataclass(frozen=True)
class Change:
    """`old` is what was found. `mends` is the finding of doctor and plan that it makes go away;
    `is_needed`: without it, L2 is not what the profile says."""

    setting: Setting
    old: str
    new: str
    why: str
    mends: str
    is_needed: bool = False

    @property
    def path(self) -> str:
        return self.setting.path

    @property
    def added(self) -> int:
        """Of a count."""
        return int(self.new) - int(self.old)
