"""What a host has, as plain facts: probed here, or recorded elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

# A lane's transfers per second over what its encoding makes of a byte, by generation.
_PCIE_LANE_BYTES_PER_S = {
    1: 0.25e9,
    2: 0.5e9,
    3: 8e9 * 128 / 130 / 8,
    4: 16e9 * 128 / 130 / 8,
    5: 32e9 * 128 / 130 / 8,
    6: 64e9 * 242 / 256 / 8,
}
_PCIE_USABLE = 0.85  # headers, acknowledgements, and what drivers leave


@dataclass(frozen=True)
class Gpu:
    """One GPU as NVML reports it."""

    name: str
    total_bytes: int
    free_bytes: int
    numa_node: int | None = None  # that it is nearest to; None: not known
    pcie_generation: int | None = None  # of the link as it can be, not as it idles
    pcie_lanes: int | None = None

    @property
    def pcie_bytes_per_s(self) -> float | None:
        """One way, as large copies reach it; None if the link is not known."""
        each = _PCIE_LANE_BYTES_PER_S.get(self.pcie_generation or 0)
        return each * self.pcie_lanes * _PCIE_USABLE if each and self.pcie_lanes else None


@dataclass(frozen=True)
class HugepagePool:
    """Reserved pages of one size. `free` are those that this process may take: nobody has asked
    for them yet, and the cgroup grants them."""

    total: int
    free: int
    granted: int | None = None  # by the cgroup, reserved or not; None: it sets no limit


@dataclass(frozen=True)
class NumaNode:
    """Memory and CPUs that are near to one another."""

    id: int
    total_bytes: int = 0
    free_bytes: int = 0  # without what the page cache could give back
    cpus: tuple[int, ...] = ()
    distances: tuple[int, ...] = ()  # to each node, in the order of `Host.numa_nodes`; 10: itself
    hugepages: Mapping[int, HugepagePool] = field(default_factory=dict)  # page bytes -> pool

    def pool(self, page_bytes: int) -> HugepagePool:
        return self.hugepages.get(page_bytes, HugepagePool(0, 0))


class DriveKind(StrEnum):
    """What kind of thing keeps the bytes, slowest member first where there are several."""

    NVME = "nvme"
    SSD = "ssd"  # SATA or SAS
    HDD = "hdd"
    VIRTUAL = "virtual"  # a virtual machine's disk: what is below it cannot be seen
    NETWORK = "network"
    MEMORY = "memory"  # tmpfs
    OVERLAY = "overlay"  # a container's own layer
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Drive:
    """One drive as the kernel names it."""

    name: str  # `nvme0n1`
    kind: DriveKind
    size_bytes: int = 0
    model: str = ""
    numa_node: int | None = None


@dataclass(frozen=True)
class FileSystem:
    """One mounted file system, and what lies below it."""

    mount_point: Path
    kind: str  # as in /proc/mounts: `ext4`, `tmpfs`; empty if unknown
    device: str  # what is mounted there
    device_id: int  # directories with the same one share their free space
    total_bytes: int
    free_bytes: int  # that kvtier may still write
    drive_kind: DriveKind = DriveKind.UNKNOWN
    drives: tuple[Drive, ...] = ()
    layers: tuple[str, ...] = ()  # between file system and drives: `partition`, `lvm`, `raid0`
    options: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What a measurement of it is kept under: its drives, or what is mounted where."""
        names = sorted(drive.name for drive in self.drives)
        return ",".join(names) if names else f"{self.device} {self.mount_point}"


@dataclass(frozen=True)
class DirectoryFacts:
    """A directory of L3, and the file system that it lies on or would lie on."""

    path: Path
    exists: bool
    used_bytes: int  # already taken by files in the directory
    on: FileSystem


@dataclass(frozen=True)
class Host:
    """Everything that plan and doctor decide on; nothing in it changes after the probe."""

    memory_total_bytes: int
    memory_available_bytes: int  # what can be used without pushing anybody out
    cgroup_limit_bytes: int | None  # the least of the limits around this process; None: none
    cgroup_used_bytes: int  # of the group with that limit, without what can be dropped
    cpus: int  # that this process may run on
    cpu_quota: float | None  # CPUs worth of time by the cgroup; None: no quota
    hugepages: Mapping[int, HugepagePool] = field(default_factory=dict)  # page bytes -> pool
    numa_nodes: tuple[NumaNode, ...] = ()  # none: not known
    gpus: tuple[Gpu, ...] = ()
    file_systems: tuple[FileSystem, ...] = ()
    directories: Mapping[Path, DirectoryFacts] = field(default_factory=dict)
    name: str = ""
    cpu_model: str = ""

    @property
    def usable_memory_bytes(self) -> int:
        """What kvtier may use: available memory, or what the cgroup still grants."""
        granted = self._cgroup_grants_bytes
        return (
            self.memory_available_bytes
            if granted is None
            else min(self.memory_available_bytes, granted)
        )

    @property
    def is_limited_by_cgroup(self) -> bool:
        """Whether the cgroup grants less memory than the host has left."""
        granted = self._cgroup_grants_bytes
        return granted is not None and granted < self.memory_available_bytes

    @property
    def _cgroup_grants_bytes(self) -> int | None:
        if self.cgroup_limit_bytes is None:
            return None
        return max(0, self.cgroup_limit_bytes - self.cgroup_used_bytes)

    @property
    def usable_cpus(self) -> int:
        """Whole CPUs that threads can keep busy, at least one."""
        quota = self.cpus if self.cpu_quota is None else int(self.cpu_quota)
        return max(1, min(self.cpus, quota))

    @property
    def node_ids(self) -> tuple[int, ...]:
        return tuple(node.id for node in self.numa_nodes)

    def hugepages_free(self, page_bytes: int) -> int:
        """Free pages of that size, over all nodes."""
        pool = self.hugepages.get(page_bytes)
        return pool.free if pool else 0
