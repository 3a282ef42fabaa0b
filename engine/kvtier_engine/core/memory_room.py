"""How much memory this host still grants, read before any of it is taken.

The control groups (v1 and v2) that the process lies in, from its own up to the root, each
grant their limit less what they use; page cache that the kernel can drop counts as room.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024
_V1_UNLIMITED = 1 << 62  # "no limit" is the largest multiple of the page size in 63 bits
_CAP_IPC_LOCK = 14  # capabilities(7): may lock memory whatever the limit


@dataclass(frozen=True)
class Room:
    """Bytes that are left, and the file that says so."""

    bytes: int
    source: str


def memory_rooms(root: Path) -> list[Room]:
    """What is available on the host, and in each control group with a limit."""
    rooms = []
    available = _table(root / "proc/meminfo").get("MemAvailable")
    if available is not None:
        rooms.append(Room(available * _KIB, "MemAvailable of /proc/meminfo"))
    for controllers, group in _groups(root / "proc/self/cgroup"):
        if controllers and "memory" not in controllers:
            continue
        for folder in _ancestors(root / "sys/fs/cgroup", bool(controllers), group):
            rooms += _room_v1(folder, root) if controllers else _room_v2(folder, root)
    return rooms


def node_room(root: Path, node: int) -> Room | None:
    """What a NUMA node has free or can drop; None if there is no such node."""
    name = f"sys/devices/system/node/node{node}/meminfo"
    lines = _lines(root / name)
    values = _numbers(line.split(maxsplit=2)[2] for line in lines if line.startswith("Node "))
    if "MemFree" not in values:
        return None
    droppable = ("Inactive(file)", "Active(file)", "SReclaimable")
    free = values["MemFree"] + sum(values.get(each, 0) for each in droppable)
    return Room(free * _KIB, f"MemFree of /{name}")


def hugepage_room(root: Path, page_bytes: int) -> Room:
    """Explicit huge pages that nobody has reserved, and those that may still be made."""
    name = f"sys/kernel/mm/hugepages/hugepages-{page_bytes // _KIB}kB"
    count = {
        each: _number(root / name / each) or 0
        for each in (
            "free_hugepages",
            "resv_hugepages",
            "nr_overcommit_hugepages",
            "surplus_hugepages",
        )
    }
    free = count["free_hugepages"] - count["resv_hugepages"]
    free += max(0, count["nr_overcommit_hugepages"] - count["surplus_hugepages"])
    return Room(max(0, free) * page_bytes, f"/{name}/free_hugepages")


def node_hugepage_room(root: Path, node: int, page_bytes: int) -> Room | None:
    """Free huge pages of one NUMA node; None if there is no such node."""
    name = f"sys/devices/system/node/node{node}/hugepages/hugepages-{page_bytes // _KIB}kB"
    free = _number(root / name / "free_hugepages")
    return None if free is None else Room(free * page_bytes, f"/{name}/free_hugepages")


def memlock_room(root: Path) -> Room | None:
    """Bytes that this process may lock; None: no limit holds for it."""
    for line in _lines(root / "proc/self/status"):
        if line.startswith("CapEff:") and int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1:
            return None
    for line in _lines(root / "proc/self/limits"):
        if line.startswith("Max locked memory"):
            soft = line.split()[3]
            return Room(int(soft), "`ulimit -l`") if soft.isdecimal() else None
    return None


def _groups(path: Path) -> Iterator[tuple[set[str], str]]:
    """(controllers, path of the group); no controllers: the unified hierarchy of v2."""
    for line in _lines(path):
        parts = line.split(":", 2)
        if len(parts) == 3 and not parts[1].startswith("name="):
            yield set(filter(None, parts[1].split(","))), parts[2]


def _ancestors(base: Path, is_v1: bool, group: str) -> Iterator[Path]:
    """Folders of the group and of all above it. In a container the path is often the host's,
    while the container's own group is the root of the mount: that always counts."""
    v2 = base / "unified" if (base / "unified").is_dir() else base
    mount = base / "memory" if is_v1 else v2
    relative = Path(group.lstrip("/"))
    if ".." in relative.parts:  # outside of this cgroup namespace
        relative = Path()
    for part in (relative, *relative.parents):
        if (mount / part).is_dir():
            yield mount / part


def _room_v2(folder: Path, root: Path) -> list[Room]:
    rooms = []
    used = _number(folder / "memory.current") or 0
    cache = _cache(folder, ("inactive_file", "active_file", "slab_reclaimable"))
    for name in ("memory.max", "memory.high"):
        limit = _number(folder / name)
        if limit is not None:
            rooms.append(_left(limit, used - cache, folder / name, root))
    return rooms


def _room_v1(folder: Path, root: Path) -> list[Room]:
    file = folder / "memory.limit_in_bytes"
    limit = _number(file)
    if limit is None or limit >= _V1_UNLIMITED:
        return []
    used = _number(folder / "memory.usage_in_bytes") or 0
    cache = _cache(folder, ("total_inactive_file", "total_active_file"))
    return [_left(limit, used - cache, file, root)]


def _left(limit: int, used: int, file: Path, root: Path) -> Room:
    return Room(max(0, limit - max(0, used)), f"/{file.relative_to(root)}")


def _cache(folder: Path, names: tuple[str, ...]) -> int:
    values = _numbers(line.replace(" ", ": ", 1) for line in _lines(folder / "memory.stat"))
    return sum(values.get(name, 0) for name in names)


def _table(path: Path) -> dict[str, int]:
    return _numbers(_lines(path))


def _numbers(lines: Iterator[str] | list[str]) -> dict[str, int]:
    """`MemFree: 12 kB` -> 12, of the lines that have a number."""
    found = {}
    for line in lines:
        name, _, text = line.partition(":")
        words = text.split()
        if words and words[0].isdecimal():
            found[name.strip()] = int(words[0])
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """The file's number; None for `max`, an unreadable file or anything else."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
