"""What an earlier run of a profile has measured: the engine leaves it in its state folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from kvtier_engine.config import RATES_FILE
from kvtier_ops.host import Host
from kvtier_ops.paths import xdg_home

_RATE_MAX = 1e15
Entry = TypeVar("Entry")


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
class ByThreads:
    """Bytes per second of one thread, and of as many as the host has CPUs."""

    one: float
    all: float

    def of(self, threads: int) -> float:
        return min(threads * self.one, max(self.one, self.all))


@dataclass(frozen=True)
class MeasuredMemory:
    """By `kvtier bench memory`."""

    copy: ByThreads
    first_touch: Mapping[str, ByThreads]  # by `tiers.l2.hugepages`
    when: str


@dataclass(frozen=True)
class Measured:
    """What earlier runs left; None: nothing was measured."""

    prefill: MeasuredRate | None = None  # tokens
    l3_read: MeasuredRate | None = None  # bytes
    disks: Mapping[str, MeasuredDisk] = field(default_factory=dict)  # by `FileSystem.key`
    memories: Mapping[str, MeasuredMemory] = field(default_factory=dict)  # by `memory_key`


def disks_file() -> Path:
    """Where `kvtier bench disk` keeps its results."""
    return xdg_home("XDG_STATE_HOME") / "kvtier" / "measured" / "disks.json"


def memory_file() -> Path:
    """Where `kvtier bench memory` keeps its results."""
    return disks_file().with_name("memory.json")


def memory_key(host: Host) -> str:
    """What a measurement of memory depends on: another CPU, or other nodes, have to be measured
    themselves, also where several hosts share a home."""
    nodes = [f"node {node.id}: {len(node.cpus)} CPUs" for node in host.numa_nodes]
    return "; ".join([host.cpu_model or "CPU not known", f"{host.usable_cpus} usable", *nodes])


def read_measured(state_dir: Path) -> Measured:
    """Nothing measured where there is no such file, or where it is damaged: it is a cache."""
    said = read_object(state_dir / RATES_FILE)
    return Measured(
        prefill=_rate(said.get("prefill"), "tokens_per_s"),
        l3_read=_rate(said.get("l3_read"), "bytes_per_s"),
        disks=read_disks(),
        memories=_each(memory_file(), _memory),
    )


def read_disks() -> dict[str, MeasuredDisk]:
    """What `kvtier bench disk` has kept, by `FileSystem.key`."""
    return _each(disks_file(), _disk)


def _each(path: Path, read: Callable[[Any], Entry | None]) -> dict[str, Entry]:
    """Entries that cannot be read are left out."""
    found = {name: read(entry) for name, entry in read_object(path).items()}
    return {name: entry for name, entry in found.items() if entry is not None}


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


def _memory(said: Any) -> MeasuredMemory | None:
    if not isinstance(said, dict) or (copy := _by_threads(said.get("copy"))) is None:
        return None
    touches = said.get("first_touch")
    found = {
        str(kind): rates
        for kind, each in (touches.items() if isinstance(touches, dict) else ())
        if (rates := _by_threads(each)) is not None
    }
    return MeasuredMemory(copy, found, _day(said.get("when")))


def _by_threads(said: Any) -> ByThreads | None:
    one, together = _rate(said, "thread_bytes_per_s"), _rate(said, "all_bytes_per_s")
    return ByThreads(one.per_s, together.per_s) if one and together else None


def _day(when: Any) -> str:
    return when[:10] if isinstance(when, str) and when[:10].isprintable() else ""


def _rate(said: Any, name: str) -> MeasuredRate | None:
    if not isinstance(said, dict):
        return None
    value, when = said.get(name), said.get("when")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < _RATE_MAX:
        return None
    return MeasuredRate(float(value), _day(when), said)
