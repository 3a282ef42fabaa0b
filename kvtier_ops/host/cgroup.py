"""What control groups (v1 and v2) grant this process: memory, CPU time, hugepages.

Every group from the process's own up to the root may limit it; the least counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# cgroup v1 writes "no limit" as the largest multiple of the page size in 63 bits.
_V1_UNLIMITED = 1 << 62
_PREFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class Limits:
    """None: no limit."""

    memory_bytes: int | None = None
    memory_used_bytes: int = 0  # of the group with the least room; page cache left out
    cpus: float | None = None
    hugepage_bytes: Mapping[int, int] = field(default_factory=dict)  # page size -> still granted
    swap_bytes: int | None = None


def read_limits(root: Path) -> Limits:
    """The tightest limits around this process; unreadable files count as no limit."""
    memory: list[tuple[int, int]] = []
    cpus: list[float] = []
    swap: list[int] = []
    hugepages: dict[int, int] = {}
    for controllers, group in _groups(root / "proc/self/cgroup"):
        for folder in _ancestors(root, controllers, group):
            is_v2 = not controllers
            if is_v2 or "memory" in controllers:
                memory += _memory_v2(folder) if is_v2 else _memory_v1(folder)
                swap += _swap_v2(folder) if is_v2 else _swap_v1(folder)
            if is_v2 or "cpu" in controllers:
                cpus += _cpus_v2(folder) if is_v2 else _cpus_v1(folder)
            if is_v2 or "hugetlb" in controllers:
                for size, room in _hugepages(folder, is_v2):
                    hugepages[size] = min(room, hugepages.get(size, room))
    limit, used = min(memory, key=lambda pair: pair[0] - pair[1], default=(None, 0))
    return Limits(limit, used, min(cpus, default=None), hugepages, min(swap, default=None))


def _groups(path: Path) -> Iterator[tuple[set[str], str]]:
    """(controllers, path of the group); no controllers: the unified hierarchy of v2."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        parts = line.split(":", 2)
        if len(parts) == 3 and not parts[1].startswith("name="):
            yield set(filter(None, parts[1].split(","))), parts[2]


def _ancestors(root: Path, controllers: set[str], group: str) -> Iterator[Path]:
    """Folders of the group and of all above it, down to the mount point.

    In a container the path is often the host's while the mount shows the container's own
    group as its root: what does not exist is left out, the mount point always counts.
    """
    base = root / "sys/fs/cgroup"
    if controllers:
        names = [",".join(sorted(controllers)), *sorted(controllers)]
        mount = next((base / name for name in names if (base / name).is_dir()), None)
    else:
        mount = base / "unified" if (base / "unified").is_dir() else base
    if mount is None:
        return
    relative = Path(group.lstrip("/"))
    if ".." in relative.parts:  # outside of this cgroup namespace
        relative = Path()
    for part in (relative, *relative.parents):
        if (mount / part).is_dir():
            yield mount / part


def _memory_v2(folder: Path) -> list[tuple[int, int]]:
    limits = [
        value
        for name in ("memory.max", "memory.high")
        if (value := _number(folder / name)) is not None
    ]
    if not limits:
        return []
    used = (_number(folder / "memory.current") or 0) - _stat(folder, "inactive_file")
    return [(min(limits), max(0, used))]


def _memory_v1(folder: Path) -> list[tuple[int, int]]:
    limit = _number(folder / "memory.limit_in_bytes")
    if limit is None or limit >= _V1_UNLIMITED:
        return []
    used = (_number(folder / "memory.usage_in_bytes") or 0) - _stat(folder, "total_inactive_file")
    return [(limit, max(0, used))]


def _swap_v2(folder: Path) -> list[int]:
    limit = _number(folder / "memory.swap.max")
    return [] if limit is None else [limit]


def _swap_v1(folder: Path) -> list[int]:
    """Where swap is accounted for, memory and swap together have a limit of their own."""
    both = _number(folder / "memory.memsw.limit_in_bytes")
    memory = _number(folder / "memory.limit_in_bytes")
    if both is None or memory is None or both >= _V1_UNLIMITED:
        return []
    return [max(0, both - memory)]


def _cpus_v2(folder: Path) -> list[float]:
    """`cpu.max`: `200000 100000` or `max 100000`."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return [int(quota) / int(period)] if quota != "max" else []
    except (OSError, ValueError, ZeroDivisionError):
        return []


def _cpus_v1(folder: Path) -> list[float]:
    quota = _number(folder / "cpu.cfs_quota_us")
    period = _number(folder / "cpu.cfs_period_us")
    return [quota / period] if quota and period and quota > 0 else []


def _hugepages(folder: Path, is_v2: bool) -> Iterator[tuple[int, int]]:
    """(page size, bytes still granted), of `hugetlb.2MB.max`; Kubernetes grants none unless
    asked, and a page that is not granted kills who touches it."""
    limit_name, used_name = ("max", "current") if is_v2 else ("limit_in_bytes", "usage_in_bytes")
    for path in sorted(folder.glob(f"hugetlb.*B.{limit_name}")):
        match = re.fullmatch(r"hugetlb\.(\d{1,4})([KMG])B\.\w+", path.name)
        limit = _number(path)
        if match is None or limit is None or limit >= _V1_UNLIMITED:
            continue
        used = _number(folder / f"hugetlb.{match[1]}{match[2]}B.{used_name}") or 0
        yield int(match[1]) * _PREFIXES[match[2]], max(0, limit - used)


def _stat(folder: Path, name: str) -> int:
    """One line of memory.stat; 0 if it is not there."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    """The file's number; None for `max`, an unreadable file or anything else."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
