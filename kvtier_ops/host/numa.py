"""NUMA nodes: memory, CPUs, distances and hugepages of each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kvtier_ops.host.sysfs import read_int, read_list, read_text
from kvtier_ops.host.types import HugepagePool, NumaNode

_KIB = 1024


def read_nodes(root: Path) -> tuple[NumaNode, ...]:
    """None if the kernel tells of none."""
    base = root / "sys/devices/system/node"
    return tuple(_node(base / f"node{node}", node) for node in read_list(base / "online"))


def _node(folder: Path, node: int) -> NumaNode:
    memory = _meminfo(folder / "meminfo")
    distances = read_text(folder / "distance").split()
    return NumaNode(
        id=node,
        total_bytes=memory.get("MemTotal", 0),
        free_bytes=memory.get("MemFree", 0),
        cpus=tuple(read_list(folder / "cpulist")),
        distances=tuple(int(each) for each in distances if each.isdecimal()),
        hugepages=read_hugepages(folder / "hugepages"),
    )


def room_on(root: Path, node: int) -> int | None:
    """Bytes that can be taken on a node without the kernel's having to swap or kill: what is free,
    and what the page cache gives back. None if the kernel does not tell."""
    memory = _meminfo(root / f"sys/devices/system/node/node{node}/meminfo")
    if "MemFree" not in memory:
        return None
    return memory["MemFree"] + memory.get("Inactive(file)", 0)


def caches_bytes(root: Path, cpus: Iterable[int]) -> int:
    """Of all last-level caches of these CPUs together; 0 if the kernel does not tell."""
    found: dict[tuple[int, str], int] = {}
    for cpu in cpus:
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/cache"
        for index in folder.glob("index*"):
            level, shared = read_int(index / "level"), read_text(index / "shared_cpu_list")
            size = read_text(index / "size").removesuffix("K")
            if level is not None and size.isdecimal():
                found[level, shared] = int(size) * _KIB
    last = max((level for level, _ in found), default=0)
    return sum(size for (level, _), size in found.items() if level == last)


def _meminfo(path: Path) -> dict[str, int]:
    """`Node 0 MemTotal:  10184476 kB` -> bytes."""
    values = {}
    for line in read_text(path).splitlines():
        words = line.split()
        if len(words) == 5 and words[3].isdecimal() and words[4] == "kB":
            values[words[2].rstrip(":")] = int(words[3]) * _KIB
    return values


def read_hugepages(folder: Path) -> dict[int, HugepagePool]:
    """Pages of each size, of `hugepages-2048kB/nr_hugepages` and `free_hugepages`; of the free
    ones, some may be promised to a mapping already. The kernel does not tell that by node."""
    found = {}
    for entry in sorted(folder.glob("hugepages-*kB")):
        size = entry.name.removeprefix("hugepages-").removesuffix("kB")
        total, free = (read_int(entry / name) for name in ("nr_hugepages", "free_hugepages"))
        if size.isdecimal() and total is not None and free is not None:
            promised = read_int(entry / "resv_hugepages") or 0
            found[int(size) * _KIB] = HugepagePool(total, max(0, free - promised))
    return found
