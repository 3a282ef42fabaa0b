"""NUMA nodes: memory, CPUs, distances and hugepages of each."""

from __future__ import annotations

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
