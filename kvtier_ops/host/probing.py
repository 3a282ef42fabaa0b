"""What this host has: one frozen snapshot, read below a root so that tests can pass another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from kvtier_ops.errors import HostError
from kvtier_ops.host.cgroup import Limits, read_limits
from kvtier_ops.host.directories import read_directory
from kvtier_ops.host.gpus import read_gpus
from kvtier_ops.host.mounts import MountTable
from kvtier_ops.host.numa import read_hugepages, read_nodes
from kvtier_ops.host.sysfs import parse_list, read_text
from kvtier_ops.host.types import Host, HugepagePool

_KIB = 1024


def probe(
    root: Path = Path("/"), directories: Iterable[Path] = (), *, everything: bool = False
) -> Host:
    """Reads `root`/proc and `root`/sys, and the file systems behind `directories`.

    `everything`: all other file systems as well, for a host that is to be recorded; one on a
    network that does not answer is waited for. Raises HostError if there is no /proc/meminfo:
    this is not Linux.
    """
    mounts = MountTable(root)
    memory = _meminfo(root / "proc/meminfo")
    limits = read_limits(root)
    return Host(
        memory_total_bytes=memory["MemTotal"],
        memory_available_bytes=memory.get("MemAvailable", memory.get("MemFree", 0)),
        cgroup_limit_bytes=limits.memory_bytes,
        cgroup_used_bytes=limits.memory_used_bytes,
        cpus=_cpus(root),
        cpu_quota=limits.cpus,
        hugepages=_granted(read_hugepages(root / "sys/kernel/mm/hugepages"), limits),
        numa_nodes=tuple(
            replace(node, hugepages=_granted(node.hugepages, limits)) for node in read_nodes(root)
        ),
        gpus=read_gpus(root) if root == Path("/") else (),
        file_systems=mounts.all() if everything else (),
        directories={path: read_directory(path, mounts) for path in directories},
        name=read_text(root / "proc/sys/kernel/hostname"),
        cpu_model=_cpu_model(root),
    )


def _meminfo(path: Path) -> dict[str, int]:
    """Name -> bytes, of the lines that are in kB."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        hint = "kvtier runs on Linux, with /proc mounted"
        raise HostError(f"cannot read `{path}`: {error.strerror}", hint) from error
    words = (line.replace(":", " ").split() for line in lines)
    values = {
        each[0]: int(each[1]) * _KIB
        for each in words
        if len(each) == 3 and each[1].isdecimal() and each[2] == "kB"
    }
    if "MemTotal" not in values:
        raise HostError(f"`{path}` does not say how much memory there is", "is /proc mounted?")
    return values


def _granted(pools: Mapping[int, HugepagePool], limits: Limits) -> dict[int, HugepagePool]:
    """Free pages are those that the cgroup lets this process take."""
    found = {}
    for size, pool in pools.items():
        limit = limits.hugepage_bytes.get(size)
        if limit is None:
            found[size] = pool
        else:
            granted = limit // size
            found[size] = replace(pool, free=min(pool.free, granted), granted=granted)
    return found


def _cpus(root: Path) -> int:
    if root == Path("/"):
        return len(os.sched_getaffinity(0))
    for line in read_text(root / "proc/self/status").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            return len(parse_list(line.partition(":")[2])) or 1
    return 1


def _cpu_model(root: Path) -> str:
    """As /proc/cpuinfo names the first one; on some architectures it does not."""
    for line in read_text(root / "proc/cpuinfo").splitlines():
        if line.startswith(("model name", "Model Name")):
            return line.partition(":")[2].strip()
    return ""
