"""`--what-if gpu=8xH100-80G,mem=2TiB`: a host with other parts than it has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kvtier_ops.errors import BadInput
from kvtier_ops.host.directories import SUPPOSED
from kvtier_ops.host.known_gpus import KNOWN_GPUS, known_gpu
from kvtier_ops.host.types import Drive, DriveKind, FileSystem, Gpu, Host, HugepagePool, NumaNode
from kvtier_ops.text import shortened
from kvtier_ops.units import format_bytes, parse_size

# Assumed of parts that are only supposed: what the kernel, a driver and a file system keep.
MEMORY_FREE_PERCENT = 97
GPU_FREE_PERCENT = 98
DISK_FREE_PERCENT = 95
_DISTANCE_HERE, _DISTANCE_THERE = 10, 21  # as firmware of two sockets mostly says

_COUNT_MAX = 1024
_CPUS_MAX = 65536
_NODES_MAX = 64
_DEVICE_ID = 1 << 40  # of the first disk: the kernel's own numbers are smaller
_DRIVES = {
    "nvme": DriveKind.NVME,
    "ssd": DriveKind.SSD,
    "sata": DriveKind.SSD,
    "hdd": DriveKind.HDD,
    "network": DriveKind.NETWORK,
}


def apply_what_if(host: Host, text: str) -> tuple[Host, dict[str, str]]:
    """The host with the parts that `text` names, and what is not the host's (`model`).

    `mem` and `cpus` lift the cgroup's limits; GPUs, memory, CPUs and hugepages are spread over the
    NUMA nodes equally; disks take the place of whatever the directories lie on. Raises BadInput.
    """
    given = _split(text)
    others = {"model": given.pop("model").value} if "model" in given else {}
    for key, change in _CHANGES.items():  # in this order, whatever the text's
        if key in given:
            host = change(host, given[key])
    return host, others


@dataclass(frozen=True)
class _Part:
    """`mem=2TiB`."""

    key: str
    value: str

    def wrong(self, what: str, hint: str = "") -> BadInput:
        shown = f"{self.key}={self.value}" if self.key else self.value
        if not hint:
            hint = f"write it as `{_EXAMPLES[self.key]}`" if self.key in _EXAMPLES else _ALL
        return BadInput(f"`{_shown(shown)}` {what}", hint, place="--what-if")


_EXAMPLES = {
    "nodes": "nodes=2",
    "cpus": "cpus=64",
    "mem": "mem=2TiB",
    "hugepages": "hugepages=2MiB:204800",
    "gpu": "gpu=8xH100-80G",
    "disk": "disk=4x3.84TB-nvme",
    "model": "model=PATH",
}
_ALL = f"the parts are {', '.join(f'`{each}`' for each in _EXAMPLES.values())}"


def _split(text: str) -> dict[str, _Part]:
    found: dict[str, _Part] = {}
    for item in filter(None, (each.strip() for each in text.split(","))):
        key, equals, value = (each.strip() for each in item.partition("="))
        if not equals:
            raise _Part("", item).wrong("is not a name, `=` and a value")
        part = _Part(key, value)
        if key not in _EXAMPLES:
            close = difflib.get_close_matches(key[:80].lower(), _EXAMPLES, 1, 0.6)
            meant = f": did you mean `{close[0]}`?" if close else ""
            raise part.wrong(f"is not a part of a host{meant}")
        if not value or key in found:
            raise part.wrong("has no value" if not value else "is named twice")
        found[key] = part
    if not found:
        raise _Part("", text).wrong("names no part")
    return found


def _nodes(host: Host, part: _Part) -> Host:
    count = _number(part, part.value, _NODES_MAX)
    nodes = tuple(
        NumaNode(
            id=i,
            distances=tuple(_DISTANCE_HERE if i == j else _DISTANCE_THERE for j in range(count)),
        )
        for i in range(count)
    )
    gpus = _spread(host.gpus, count)
    return _divided(replace(host, numa_nodes=nodes, gpus=gpus), memory=True, cpus=True)


def _cpus(host: Host, part: _Part) -> Host:
    count = _number(part, part.value, _CPUS_MAX)
    return _divided(replace(host, cpus=count, cpu_quota=None, cpu_model=""), cpus=True)


def _memory(host: Host, part: _Part) -> Host:
    total = _size(part, part.value)
    reserved = _reserved(host.hugepages)
    available = total * MEMORY_FREE_PERCENT // 100 - reserved
    if available <= 0:
        raise part.wrong(
            f"is less than the {format_bytes(reserved)} that the host has reserved as hugepages",
            "name more memory, or fewer hugepages (`hugepages=2MiB:0`)",
        )
    changed = replace(
        host,
        memory_total_bytes=total,
        memory_available_bytes=available,
        cgroup_limit_bytes=None,
        cgroup_used_bytes=0,
    )
    return _divided(changed, memory=True)


def _hugepages(host: Host, part: _Part) -> Host:
    """Pages that are reserved are no longer available for anything else."""
    size_text, colon, count_text = part.value.partition(":")
    if not colon:
        raise part.wrong("has no number of pages")
    size = _size(part, size_text)
    if size & (size - 1) or size < 1 << 16:
        raise part.wrong("is of no size that hugepages have")
    if not re.fullmatch(r"\d{1,12}", count_text, re.ASCII):
        raise part.wrong("has no number of pages")
    count = int(count_text)
    pools = {**host.hugepages, size: HugepagePool(count, count)}
    left = host.memory_available_bytes + _reserved(host.hugepages) - _reserved(pools)
    if left <= 0:
        raise part.wrong(
            f"is more memory than is available, {format_bytes(host.memory_available_bytes)}",
            "name fewer pages, or more memory (`mem=2TiB`)",
        )
    return _divided(replace(host, memory_available_bytes=left, hugepages=pools), memory=True)


def _gpus(host: Host, part: _Part) -> Host:
    if part.value == "none":
        return replace(host, gpus=())
    count, name = _counted(part)
    return replace(host, gpus=_spread((_gpu(part, name),) * count, len(host.numa_nodes)))


def _gpu(part: _Part, name: str) -> Gpu:
    known = known_gpu(name)
    if known is not None:
        total = known.memory_bytes
        link = (known.pcie_generation, known.pcie_lanes)
        return Gpu(known.name, total, total * GPU_FREE_PERCENT // 100, None, *link)
    match = re.fullmatch(r"(.+)-(\d[\d.]*)(G|[KMGT]i?B)", name)
    if match is None:
        close = difflib.get_close_matches(name[:80], [gpu.name for gpu in KNOWN_GPUS], 1, 0.6)
        meant = f"did you mean `{close[0]}`? " if close else ""
        raise part.wrong(f"is a GPU that is not known: {meant}Others need a size, `NAME-48GiB`")
    total = _size(part, match[2] + ("GiB" if match[3] == "G" else match[3]))
    return Gpu(name, total, total * GPU_FREE_PERCENT // 100)


def _disks(host: Host, part: _Part) -> Host:
    count, text = _counted(part)
    size_text, dash, kind_text = text.rpartition("-")
    if not dash or kind_text not in _DRIVES:
        raise part.wrong(f"does not end in the kind of disk: {', '.join(_DRIVES)}")
    size, kind = _size(part, size_text), _DRIVES[kind_text]
    others = (each for each in host.file_systems if not each.mount_point.is_relative_to(SUPPOSED))
    return replace(host, file_systems=(*others, *(_disk(i, size, kind) for i in range(count))))


def _disk(number: int, size: int, kind: DriveKind) -> FileSystem:
    name = f"disk{number}"
    return FileSystem(
        mount_point=Path(SUPPOSED) / name,
        kind="nfs4" if kind is DriveKind.NETWORK else "ext4",
        device=name,
        device_id=_DEVICE_ID + number,
        total_bytes=size,
        free_bytes=size * DISK_FREE_PERCENT // 100,
        drive_kind=kind,
        drives=() if kind is DriveKind.NETWORK else (Drive(name, kind, size),),
    )


_CHANGES: dict[str, Callable[[Host, _Part], Host]] = {
    "nodes": _nodes,
    "cpus": _cpus,
    "mem": _memory,
    "hugepages": _hugepages,
    "gpu": _gpus,
    "disk": _disks,
}


def _divided(host: Host, *, memory: bool = False, cpus: bool = False) -> Host:
    """Every node has an equal part; of what does not divide, the first ones have one more."""
    nodes, count = list(host.numa_nodes), len(host.numa_nodes)
    for i, node in enumerate(nodes):
        if memory:
            nodes[i] = node = replace(
                node,
                total_bytes=host.memory_total_bytes // count,
                free_bytes=host.memory_available_bytes // count,
                hugepages={
                    size: HugepagePool(_share(pool.total, i, count), _share(pool.free, i, count))
                    for size, pool in host.hugepages.items()
                },
            )
        if cpus:
            first = sum(_share(host.cpus, j, count) for j in range(i))
            mine = range(first, first + _share(host.cpus, i, count))
            nodes[i] = replace(node, cpus=tuple(mine))
    return replace(host, numa_nodes=tuple(nodes))


def _share(amount: int, number: int, count: int) -> int:
    return amount // count + (number < amount % count)


def _spread(gpus: tuple[Gpu, ...], nodes: int) -> tuple[Gpu, ...]:
    """The first ones on the first node, as such machines are built."""
    return tuple(
        replace(gpu, numa_node=i * nodes // len(gpus) if nodes else None)
        for i, gpu in enumerate(gpus)
    )


def _reserved(pools: Mapping[int, HugepagePool]) -> int:
    return sum(size * pool.total for size, pool in pools.items())


def _counted(part: _Part) -> tuple[int, str]:
    """`8xNAME` -> (8, NAME); without a number it is one."""
    match = re.fullmatch(r"(\d+)x(.+)", part.value, re.ASCII)
    return (_number(part, match[1], _COUNT_MAX), match[2]) if match else (1, part.value)


def _number(part: _Part, text: str, most: int) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not 1 <= int(text) <= most:
        raise part.wrong(f"is not a number from 1 to {most:,}")
    return int(text)


def _size(part: _Part, text: str) -> int:
    try:
        size = parse_size(text).bytes
    except ValueError as error:
        raise part.wrong(f"has a size that cannot be read: {error}") from None
    if not size:
        raise part.wrong("is nothing")
    return size


def _shown(text: str) -> str:
    return shortened(text, 80)
