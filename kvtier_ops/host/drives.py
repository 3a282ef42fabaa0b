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
_REMOTE_NVME = ("amazon elastic block store", "nvme_card-pd", "nvme_card-hyperdisk")
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

    @property
    def kind(self) -> DriveKind:
        kinds = [drive.kind for drive in self.drives]
        return max(kinds, key=_ORDER.index, default=DriveKind.UNKNOWN)


# The block device that a file lies on; None if it cannot be told.
DeviceOf = Callable[[Path], Path | None]


def device_folder(root: Path, major_minor: str, source: str) -> Path | None:
    """/sys's folder of a device by its number, or by what was mounted, such as /dev/sda1."""
    by_number = root / "sys/dev/block" / major_minor
    if by_number.exists():
        return by_number.resolve()
    if not source.startswith("/dev/"):
        return None
    try:
        name = (root / source.lstrip("/")).resolve().name
    except (OSError, RuntimeError):
        name = Path(source).name
    by_name = root / "sys/class/block" / name
    return by_name.resolve() if by_name.exists() else None


def read_stack(device: Path, device_of: DeviceOf) -> Stack:
    """`device`: a folder such as /sys/devices/.../block/sda/sda1."""
    stack, seen = Stack(), set[Path]()
    _walk(device, stack, seen, device_of)
    return stack


def _walk(device: Path, stack: Stack, seen: set[Path], device_of: DeviceOf) -> None:
    """Damaged or circular entries end the walk where they are."""
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


def _below(device: Path, device_of: DeviceOf) -> tuple[str | None, list[Path]]:
    """The layer that this device is, and the devices below it; None: it is a drive."""
    if (device / "partition").exists():
        return "partition", [device.parent]
    if (device / "dm").is_dir():
        uuid = read_text(device / "dm/uuid")
        name = next((name for start, name in _MAPPERS.items() if uuid.startswith(start)), "dm")
        return name, list(_slaves(device))
    if (device / "md").is_dir():
        return read_text(device / "md/level") or "raid", list(_slaves(device))
    if (device / "bcache").is_dir():
        return "bcache", list(_slaves(device))
    if (device / "loop").is_dir():
        file = read_text(device / "loop/backing_file")
        found = device_of(Path(file)) if file else None
        return "loop", [found] if found is not None else []
    return None, []


def _slaves(device: Path) -> Iterator[Path]:
    try:
        entries = sorted((device / "slaves").iterdir())
    except OSError:
        return
    for entry in entries:
        try:
            yield entry.resolve()
        except (OSError, RuntimeError):  # a link that leads to itself
            continue


def _drive(device: Path) -> Drive:
    sectors = read_int(device / "size") or 0
    model = " ".join(
        word for name in ("vendor", "model") if (word := read_text(device / "device" / name))
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
    """Of the controller: the kernel says -1 where there are no nodes."""
    for path in ("device/numa_node", "device/device/numa_node"):
        node = read_int(device / path)
        if node is not None and node >= 0:
            return node
    return None
