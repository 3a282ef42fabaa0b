"""What keeps the bytes of a block device: through partitions, LVM, LUKS, RAID and loops, down to
the drives, as /sys tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kvtier_ops.host.sysfs import read_int, read_text
from kvtier_ops.host.types import Drive, DriveKind

_SECTOR_BYTES = 512
_DEVICES_MAX = 256
_MAPPERS = {"LVM-": "lvm", "CRYPT-": "luks", "mpath-": "multipath", "part": "partition"}
_REMOTE_NVME = (
    "amazon elastic block store",
    "nvme_card-pd",
    "nvme_card-hyperdisk",
    "msft nvme accelerator",
)
_VIRTUAL = ("qemu", "vmware", "msft", "vbox", "virtual disk", "virtio", "virtual_disk")
_REMOTE = ("persistentdisk", "openstack", "lio-org", "iscsi")
_BY_NAME = (
    ("nbd", DriveKind.NETWORK),
    ("rbd", DriveKind.NETWORK),
    ("drbd", DriveKind.NETWORK),
    ("vd", DriveKind.VIRTUAL),
    ("xvd", DriveKind.VIRTUAL),
    ("zram", DriveKind.MEMORY),
    ("ram", DriveKind.MEMORY),
    ("pmem", DriveKind.MEMORY),
    ("mmcblk", DriveKind.SSD),
)
# From the quickest to the slowest: several drives are as slow as the slowest of them.
_ORDER = (
    DriveKind.MEMORY,
    DriveKind.NVME,
    DriveKind.SSD,
    DriveKind.VIRTUAL,
    DriveKind.OVERLAY,
    DriveKind.NETWORK,
    DriveKind.UNKNOWN,
    DriveKind.HDD,
)


@dataclass
class Stack:
    """Layers from the top down, each named once, and the drives below them."""

    layers: list[str] = field(default_factory=list)
    drives: list[Drive] = field(default_factory=list)
    ends: list[DriveKind] = field(default_factory=list)  # of a loop's file that is on no drive

    @property
    def kind(self) -> DriveKind:
        kinds = [*(drive.kind for drive in self.drives), *self.ends]
        return max(kinds, key=_ORDER.index, default=DriveKind.UNKNOWN)


# The block device that a file lies on, or what keeps it if that is none.
DeviceOf = Callable[[Path], Path | DriveKind]


def device_folders(root: Path, major_minor: str, source: str) -> list[Path]:
    """/sys's folder of a device by its number, or by what was mounted, such as /dev/sda1: then
    all of the file system, if it is a btrfs over several. None if it cannot be told."""
    by_number = _resolved(root / "sys/dev/block" / major_minor)
    if by_number is not None:
        return [by_number]
    if not source.startswith("/dev/"):
        return []
    # /dev/mapper/vg-data is a link to /dev/dm-0; without udev it is a node of its own.
    node = _resolved(root / source.lstrip("/"))
    name = node.name if node is not None else Path(source).name
    by_name = _resolved(root / "sys/class/block" / name) or _mapped(root, Path(source).name)
    return _pool_of(root, by_name) if by_name is not None else []


def _resolved(path: Path) -> Path | None:
    """None if there is no such thing, or a link leads to itself."""
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return None


def _mapped(root: Path, name: str) -> Path | None:
    """The device mapper's device of that name."""
    named = (root / "sys/class/block").glob("dm-*/dm/name")
    found = next((path for path in sorted(named) if read_text(path) == name), None)
    return _resolved(found.parent.parent) if found is not None else None


def _pool_of(root: Path, device: Path) -> list[Path]:
    """The device and its companions in a btrfs."""
    for folder in sorted((root / "sys/fs/btrfs").glob("*/devices")):
        entries = sorted(folder.glob("*"))
        if device.name in (entry.name for entry in entries):
            return [each for entry in entries if (each := _resolved(entry)) is not None]
    return [device]


def read_stack(devices: list[Path], device_of: DeviceOf) -> Stack:
    """`devices`: folders such as /sys/devices/.../block/sda/sda1."""
    stack, seen = Stack(), set[Path]()
    for device in devices:
        _walk(device, stack, seen, device_of)
    return stack


def _walk(device: Path | DriveKind, stack: Stack, seen: set[Path], device_of: DeviceOf) -> None:
    """Damaged or circular entries end the walk where they are."""
    if isinstance(device, DriveKind):
        stack.ends.append(device)
        return
    if device in seen or len(seen) > _DEVICES_MAX:
        return
    seen.add(device)
    layer, below = _below(device, device_of)
    if layer is None:
        stack.drives.append(_drive(device))
        return
    if layer not in stack.layers:
        stack.layers.append(layer)
    for each in below:
        _walk(each, stack, seen, device_of)


def _below(device: Path, device_of: DeviceOf) -> tuple[str | None, list[Path | DriveKind]]:
    """The layer that this device is, and the devices below it; None: it is a drive."""
    if (device / "partition").exists():
        return "partition", [device.parent]
    if (device / "dm").is_dir():
        uuid = read_text(device / "dm/uuid")
        name = next((name for start, name in _MAPPERS.items() if uuid.startswith(start)), "dm")
        return name, [*_slaves(device)]
    if (device / "md").is_dir():
        return read_text(device / "md/level") or "raid", [*_slaves(device)]
    if (device / "bcache").is_dir():
        return "bcache", [*_slaves(device)]
    if (device / "loop").is_dir():
        file = read_text(device / "loop/backing_file")
        return "loop", [device_of(Path(file))] if file else []
    return None, []


def _slaves(device: Path) -> Iterator[Path]:
    try:
        entries = sorted((device / "slaves").iterdir())
    except OSError:
        return
    for entry in entries:
        if (found := _resolved(entry)) is not None:
            yield found


def _drive(device: Path) -> Drive:
    sectors = read_int(device / "size") or 0
    model = " ".join(
        word
        for name in ("vendor", "model")
        if (word := read_text(device / "device" / name)) and not word.startswith("0x")  # virtio's
    )
    return Drive(
        name=device.name,
        kind=_kind(device, model.lower()),
        size_bytes=max(0, sectors) * _SECTOR_BYTES,
        model=model,
        numa_node=_numa_node(device),
    )


def _kind(device: Path, model: str) -> DriveKind:
    name = device.name
    if name.startswith("nvme"):
        transport = read_text(device / "device/transport")
        is_remote = any(each in model for each in _REMOTE_NVME)
        if is_remote or transport in ("tcp", "rdma", "fc"):
            return DriveKind.NETWORK
        return DriveKind.NVME
    for start, kind in _BY_NAME:
        if name.startswith(start):
            return kind
    if not name.startswith(("sd", "hd", "dasd")):
        return DriveKind.UNKNOWN
    if any(each in model for each in _REMOTE):
        return DriveKind.NETWORK
    if any(each in model for each in _VIRTUAL):
        return DriveKind.VIRTUAL
    rotational = read_int(device / "queue/rotational")
    if rotational is None:
        return DriveKind.UNKNOWN
    return DriveKind.HDD if rotational else DriveKind.SSD


def _numa_node(device: Path) -> int | None:
    """Of the nearest controller above; the kernel says -1 where there are no nodes. An NVMe drive
    that could have several paths lies below none of them: its subsystem names them."""
    start = _resolved(device / "device") or device
    for place in (start, *(_resolved(path) or start for path in sorted(start.glob("nvme*")))):
        for folder in (place, *place.parents):
            if folder.name == "devices":
                break
            node = read_int(folder / "numa_node")
            if node is not None:
                if node >= 0:
                    return node
                break
    return None
