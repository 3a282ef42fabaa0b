"""What this host has: one frozen snapshot, read below a root so that tests can pass another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from kvtier_ops.errors import HostError
from kvtier_ops.host import cgroup
from kvtier_ops.host.types import DirectoryFacts, FileSystem, Gpu, Host, HugepagePool, NumaNode

_KIB = 1024


def probe(root: Path = Path("/"), directories: Iterable[Path] = ()) -> Host:
    """Reads `root`/proc and `root`/sys, and the file systems behind `directories`.

    Raises HostError if there is no /proc/meminfo: this is not Linux.
    """
    memory = _meminfo(root / "proc/meminfo")
    limits = cgroup.read_limits(root)
    return Host(
        memory_total_bytes=memory["MemTotal"],
        memory_available_bytes=memory.get("MemAvailable", memory.get("MemFree", 0)),
        cgroup_limit_bytes=limits.memory_bytes,
        cgroup_used_bytes=limits.memory_used_bytes,
        cpus=_cpus(root),
        cpu_quota=limits.cpus,
        hugepages=_hugepages(root / "sys/kernel/mm/hugepages"),
        numa_nodes=_numa_nodes(root / "sys/devices/system/node/online"),
        gpus=_gpus(root) if root == Path("/") else (),
        directories={path: _directory(path, root) for path in directories},
    )


def _meminfo(path: Path) -> dict[str, int]:
    """Name -> bytes, of the lines that are in kB."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        hint = "kvtier runs on Linux, with /proc mounted"
        raise HostError(f"cannot read `{path}`: {error.strerror}", hint) from error
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
    values = {name: int(text.split()[0]) * _KIB for name, text in pairs}
    if "MemTotal" not in values:
        raise HostError(f"`{path}` does not say how much memory there is", "is /proc mounted?")
    return values


def _cpus(root: Path) -> int:
    if root == Path("/"):
        return len(os.sched_getaffinity(0))
    for line in (root / "proc/self/status").read_text().splitlines():
        if line.startswith("Cpus_allowed_list:"):
            return len(_list(line.partition(":")[2]))
    return 1


def _numa_nodes(path: Path) -> tuple[NumaNode, ...]:
    try:
        return tuple(NumaNode(node) for node in _list(path.read_text()))
    except (OSError, ValueError):
        return ()


def _list(text: str) -> list[int]:
    """`0-3,8` -> [0, 1, 2, 3, 8], the kernel's way to write a set of numbers."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _hugepages(folder: Path) -> dict[int, HugepagePool]:
    """Pages of each size, `hugepages-2048kB/free_hugepages`."""
    found = {}
    for entry in sorted(folder.glob("hugepages-*kB")):
        size = int(entry.name.removeprefix("hugepages-").removesuffix("kB")) * _KIB
        try:
            total, free = (
                int((entry / name).read_text()) for name in ("nr_hugepages", "free_hugepages")
            )
            found[size] = HugepagePool(total, free)
        except (OSError, ValueError):
            continue
    return found


def _gpus(root: Path) -> tuple[Gpu, ...]:
    """GPUs through NVML; none if it is not installed or finds no driver."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        memories = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
        names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
        places = [pynvml.nvmlDeviceGetPciInfo(handle).busId for handle in handles]
        return tuple(
            Gpu(str(name), int(memory.total), int(memory.free), _node_of(root, place))
            for name, memory, place in zip(names, memories, places, strict=True)
        )
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _node_of(root: Path, bus_id: str | bytes) -> int | None:
    """The NUMA node of a PCI device; NVML writes `00000000:3B:00.0` what sysfs has as
    `0000:3b:00.0`. Without nodes the kernel says -1."""
    text = bus_id.decode() if isinstance(bus_id, bytes) else bus_id
    domain, _, rest = text.lower().partition(":")
    try:
        device = f"{int(domain, 16):04x}:{rest}"
        node = int((root / "sys/bus/pci/devices" / device / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def nearest_folder(path: Path) -> Path:
    """`path`, or the first folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _directory(path: Path, root: Path) -> DirectoryFacts:
    try:
        nearest = nearest_folder(path)
        usage = shutil.disk_usage(nearest)
        device, file_system = _mount_of(nearest.resolve(), root / "proc/self/mounts")
        return DirectoryFacts(
            path=path,
            exists=path.is_dir(),
            used_bytes=_used_bytes(path) if path.is_dir() else 0,
            on=FileSystem(
                mount_point=nearest,
                kind=file_system,
                device=device,
                device_id=nearest.stat().st_dev,
                total_bytes=usage.total,
                free_bytes=usage.free,
            ),
        )
    except OSError as error:
        hint = "choose another directory in `tiers.l3.directories`"
        raise HostError(f"cannot look at `{path}`: {error.strerror}", hint) from error


def _mount_of(path: Path, mounts: Path) -> tuple[str, str]:
    """(device, file system) of the longest mount point that `path` lies below."""
    best, found = -1, ("", "")
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        device, point, file_system = line.split(" ")[:3]
        point = point.encode().decode("unicode_escape")  # `\\040` stands for a space
        if path.is_relative_to(point) and len(point) >= best:
            best, found = len(point), (device, file_system)
    return found


def _used_bytes(folder: Path) -> int:
    """Bytes on disk of the files right in `folder`: the page store makes no subfolders."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
            except FileNotFoundError:
                continue
    return total
