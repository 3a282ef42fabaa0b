"""Builds the /proc and /sys of a host that is not there, laid out as Linux lays them out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kvtier_ops.host import FileSystem, Host, probe
from kvtier_ops.host.mounts import MountTable

GIB = 1 << 30
MIB = 1 << 20
_SECTOR_BYTES = 512


@dataclass(frozen=True)
class Hardware:
    """What a drive tells of itself; `place`: below /sys/devices, down to the device's parent."""

    model: str = ""
    vendor: str = ""
    rotational: bool | None = False
    bytes: int = 100 * GIB
    place: str = "pci0000:00/0000:00:17.0"
    numa_node: int = -1


@dataclass(frozen=True)
class Device:
    number: str  # `259:0`
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name


@dataclass
class FakeHost:
    """Devices are made before what lies above them; `host()` probes what was made."""

    root: Path
    memory_bytes: int = 16 * GIB
    available_bytes: int | None = None  # None: nine tenths
    cpus: int = 8
    _mounts: list[str] = field(default_factory=list)
    _usage: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _minor: int = 0

    def file(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def drive(self, name: str, hardware: Hardware = Hardware()) -> Device:
        """`nvme0n1` below its controller, anything else below a SCSI or virtio device."""
        parent = self.root / "sys/devices" / hardware.place
        is_nvme = name.startswith("nvme")
        below = f"nvme/{name.rpartition('n')[0]}" if is_nvme else "host0/target0:0:0/0:0:0:0"
        device = parent / below
        folder = device / name if is_nvme else device / "block" / name
        folder.mkdir(parents=True)
        (parent / "numa_node").write_text(f"{hardware.numa_node}\n")
        for key in ("model", "vendor"):
            if text := getattr(hardware, key):
                (device / key).write_text(f"{text}   \n")
        if is_nvme:
            (device / "transport").write_text("pcie\n")
            self._link(device / "device", parent)
        self._link(folder / "device", device)
        (folder / "size").write_text(f"{hardware.bytes // _SECTOR_BYTES}\n")
        (folder / "queue").mkdir()
        if hardware.rotational is not None:
            (folder / "queue/rotational").write_text(f"{hardware.rotational:d}\n")
        return self._register(259 if is_nvme else 8, folder)

    def partition(self, drive: Device, number: int) -> Device:
        infix = "p" if drive.name[-1].isdigit() else ""
        folder = drive.folder / f"{drive.name}{infix}{number}"
        folder.mkdir()
        (folder / "partition").write_text(f"{number}\n")
        return self._register(259, folder)

    def mapped(self, name: str, uuid: str, below: Sequence[Device]) -> Device:
        """A device mapper's: LVM-..., CRYPT-LUKS2-..., mpath-..."""
        device = self._virtual(name, 253, below)
        (device.folder / "dm").mkdir()
        (device.folder / "dm/uuid").write_text(f"{uuid}\n")
        (device.folder / "dm/name").write_text(f"the-{name}\n")
        return device

    def raid(self, name: str, level: str, below: Sequence[Device]) -> Device:
        device = self._virtual(name, 9, below)
        (device.folder / "md").mkdir()
        (device.folder / "md/level").write_text(f"{level}\n")
        return device

    def loop(self, name: str, file: str) -> Device:
        device = self._virtual(name, 7, ())
        (device.folder / "loop").mkdir()
        (device.folder / "loop/backing_file").write_text(f"{file}\n")
        return device

    def mount(
        self,
        point: str,
        kind: str = "ext4",
        on: Device | str = "0:40",
        *,
        source: str = "",
        options: str = "rw",
        room: tuple[int, int] = (100 * GIB, 60 * GIB),
    ) -> None:
        """`on`: the device, or the number that mountinfo has; `room`: in all, and free."""
        number = on if isinstance(on, str) else on.number
        given = source or (f"/dev/{on.name}" if isinstance(on, Device) else "none")
        line = f"{30 + len(self._mounts)} 1 {number} / {point} rw,relatime shared:1"
        self._mounts.append(f"{line} - {kind} {given} {options}")
        self._usage[Path(point.replace("\\040", " "))] = room

    def node(self, number: int, memory_bytes: int, cpus: str, distances: str) -> None:
        base = f"sys/devices/system/node/node{number}"
        kib, available = memory_bytes // 1024, self.available_bytes or self.memory_bytes * 9 // 10
        free = kib * available // self.memory_bytes // 2  # the page cache has the other half
        text = f"Node {number} MemTotal:  {kib} kB\nNode {number} MemFree:  {free} kB\n"
        self.file(f"{base}/meminfo", text + f"Node {number} HugePages_Total:     0\n")
        self.file(f"{base}/cpulist", cpus + "\n")
        self.file(f"{base}/distance", distances + "\n")

    def hugepages(self, below: str, page_bytes: int, total: int, free: int) -> None:
        """`below`: `sys/kernel/mm`, or a node's folder."""
        folder = f"{below}/hugepages/hugepages-{page_bytes // 1024}kB"
        self.file(f"{folder}/nr_hugepages", f"{total}\n")
        self.file(f"{folder}/free_hugepages", f"{free}\n")

    def table(self) -> MountTable:
        self.file("proc/self/mountinfo", "".join(f"{line}\n" for line in self._mounts))
        return MountTable(self.root, self._room)

    def at(self, path: str) -> FileSystem:
        return self.table().holding(Path(path))

    def host(self) -> Host:
        kib = self.memory_bytes // 1024
        free = kib * 9 // 10 if self.available_bytes is None else self.available_bytes // 1024
        self.file("proc/meminfo", f"MemTotal: {kib} kB\nMemAvailable: {free} kB\n")
        self.file("proc/self/status", f"Cpus_allowed_list:\t0-{self.cpus - 1}\n")
        return replace(probe(self.root), file_systems=self.table().all())

    def _room(self, point: Path) -> tuple[int, int]:
        if point not in self._usage:
            raise FileNotFoundError(2, "No such file or directory", str(point))
        return self._usage[point]

    def _virtual(self, name: str, major: int, below: Sequence[Device]) -> Device:
        folder = self.root / "sys/devices/virtual/block" / name
        (folder / "slaves").mkdir(parents=True)
        (folder / "size").write_text("2048\n")
        for device in below:
            self._link(folder / "slaves" / device.name, device.folder)
        return self._register(major, folder)

    def _register(self, major: int, folder: Path) -> Device:
        number, self._minor = f"{major}:{self._minor}", self._minor + 1
        self._link(self.root / "sys/dev/block" / number, folder)
        self._link(self.root / "sys/class/block" / folder.name, folder)
        return Device(number, folder)

    def _link(self, link: Path, target: Path) -> None:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent))
