"""What an earlier run of a profile has measured: the engine leaves it in its state folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvtier_engine.config import RATES_FILE
from kvtier_ops.paths import xdg_home

_RATE_MAX = 1e15


@dataclass(frozen=True)
class MeasuredRate:
    """A rate, and what it was measured on, as names and values."""

    per_s: float
    when: str
    on: Mapping[str, Any]

    def is_of(self, **facts: Any) -> bool:
        """True if it was measured on just that."""
        return all(self.on.get(name) == value for name, value in facts.items())


@dataclass(frozen=True)
class MeasuredDisk:
    """By `kvtier bench disk`."""

    read_bytes_per_s: float
    write_bytes_per_s: float
    when: str


@dataclass(frozen=True)
class Measured:
    """What earlier runs left; None: nothing was measured."""

    prefill: MeasuredRate | None = None  # tokens
    l3_read: MeasuredRate | None = None  # bytes
    disks: Mapping[str, MeasuredDisk] = field(default_factory=dict)  # by `FileSystem.key`


def disks_file() -> Path:
    """Where `kvtier bench disk` keeps its results."""
    return xdg_home("XDG_STATE_HOME") / "kvtier" / "measured" / "disks.json"


def read_measured(state_dir: Path) -> Measured:
    """Nothing measured where there is no such file, or where it is damaged: it is a cache."""
    said = read_object(state_dir / RATES_FILE)
    return Measured(
        prefill=_rate(said.get("prefill"), "tokens_per_s"),
        l3_read=_rate(said.get("l3_read"), "bytes_per_s"),
        disks=read_disks(),
    )


def read_disks() -> dict[str, MeasuredDisk]:
    """What `kvtier bench disk` has kept, by `FileSystem.key`."""
    disks = {name: _disk(entry) for name, entry in read_object(disks_file()).items()}
    return {name: disk for name, disk in disks.items() if disk is not None}


def read_object(path: Path) -> dict[str, Any]:
    """Empty where there is no such file, or a damaged one: it holds what can be measured again."""
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _disk(said: Any) -> MeasuredDisk | None:
    read, write = _rate(said, "read_bytes_per_s"), _rate(said, "write_bytes_per_s")
    if read is None or write is None:
        return None
    return MeasuredDisk(read.per_s, write.per_s, read.when)


def _rate(said: Any, name: str) -> MeasuredRate | None:
    if not isinstance(said, dict):
        return None
    value, when = said.get(name), said.get("when")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < _RATE_MAX:
        return None
    day = when[:10] if isinstance(when, str) and when[:10].isprintable() else ""
    return MeasuredRate(float(value), day, said)
