"""Checks of what L3's directories lie on: the drives, how they are mounted, scheduled, and how
quick they were."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.doctor.checks.disk import directories
from kvtier_ops.doctor.place import write_fix
from kvtier_ops.host import DriveKind, FileSystem, nearest_folder
from kvtier_ops.host.mounts import MountTable
from kvtier_ops.host.sysfs import read_text
from kvtier_ops.plan import Plan
from kvtier_ops.plan.measured import read_disks
from kvtier_ops.plan.rates import DISK_CLASSES
from kvtier_ops.tune.find import SUITED_SCHEDULERS
from kvtier_ops.units import format_bytes, format_decimal

_NOT_DISKS = {
    DriveKind.MEMORY: "memory: what lies there counts as memory, and is gone after a reboot",
    DriveKind.OVERLAY: "a container's own layer: slow, and gone with the container",
    DriveKind.NETWORK: "on a network: reading may be slower than computing",
}
_UNCOMPRESSED = "`sudo btrfs property set {path} compression none`"
# Option -> what it does to L3, and how it is mended. `discard` is not among them: L3 uses its slots
# again and frees next to none, and the images of most clouds are mounted with it.
_OPTIONS = {
    "sync": ("every write waits for the drive", "`sudo mount -o remount,async {point}`"),
    "dirsync": ("every new file waits for the drive", "mount `{point}` again without it"),
    "data=journal": ("every page is written twice", "mount `{point}` again without it"),
    "compress": ("pages, which do not shrink, are compressed", _UNCOMPRESSED),
    "compress-force": ("pages, which do not shrink, are compressed", _UNCOMPRESSED),
}
_WITH_VALUES = ("compress", "compress-force")  # `compress=zstd:3`
# Where to look when what keeps the bytes is slow, or gives back others than it was given.
_LOOK_AFTER = {
    DriveKind.MEMORY: "it lies in memory: `dmesg` tells of errors there, `free -h` of swapping",
    DriveKind.NETWORK: "see the file server, the network, and `dmesg`",
    DriveKind.VIRTUAL: "see `dmesg`, and what the provider grants this disk and says of it",
}
_SLOW_SHARE = 0.5  # of its class
_LAYERS_SHOWN = 4


def file_system(context: Context, path: Path) -> FileSystem | None:
    """Below the directory, as the plan has it, or looked up; None if it cannot be told."""
    if context.prepared and path in context.prepared.host.directories:
        return context.prepared.host.directories[path].on
    try:
        return MountTable(context.root).holding(nearest_folder(path).resolve())
    except OSError:
        return None


def look_after(on: FileSystem | None) -> str:
    """Where errors and slowness of what is below would show: SMART is of drives alone."""
    kind = on.drive_kind if on is not None else DriveKind.UNKNOWN
    if kind in _LOOK_AFTER:
        return _LOOK_AFTER[kind]
    names = [f"`smartctl -a /dev/{drive.name}`" for drive in on.drives] if on is not None else []
    return f"{', '.join(names) or '`smartctl -a`'} and `dmesg` tell of the drive"


def _each(context: Context) -> Iterator[tuple[Path, FileSystem]]:
    for path in directories(context):
        on = file_system(context, path)
        if on is not None:
            yield path, on


def device_behind(context: Context) -> Iterator[Outcome]:
    """With a plan, what is no local disk is its own warning, KVT-P006."""
    for path, on in _each(context):
        ill = _NOT_DISKS.get(on.drive_kind, "")
        if ill and context.plan:
            continue
        yield Outcome(
            ok=not ill,
            required="a local disk",
            current=f"{on.kind or 'a file system'}, {ill}" if ill else describe(on),
            fix="name a directory on a local disk in `tiers.l3.directories`",
            subject=f"`{path}`",
        )


def describe(on: FileSystem) -> str:
    """`ext4 on nvme0n1 (nvme, 3.49 TiB) through lvm, partition`."""
    drives = ", ".join(
        f"{drive.name} ({drive.kind}"
        + f", {format_bytes(drive.size_bytes)}" * bool(drive.size_bytes)
        + ")"
        for drive in on.drives
    )
    layers = ", ".join(on.layers[:_LAYERS_SHOWN])
    shown = drives or f"{on.device or 'a device that cannot be seen'} ({on.drive_kind})"
    return f"{on.kind or 'a file system'} on {shown}" + (f" through {layers}" if layers else "")


def rotational(context: Context) -> Iterator[Outcome]:
    """A disk that turns, alone or among others: the slowest one counts."""
    for path, on in _each(context):
        if not on.drives:
            continue
        slow = [drive.name for drive in on.drives if drive.kind is DriveKind.HDD]
        yield Outcome(
            ok=not slow,
            required="drives without moving parts",
            current=f"{', '.join(slow)} turns" if slow else "none turns",
            fix="name a directory on an SSD or NVMe drive in `tiers.l3.directories`",
            subject=f"`{path}`",
            reason=rate_reason(context.plan),
        )


def rate_reason(plan: Plan | None) -> str:
    """What a disk must read to be worth it, by this profile."""
    rows = plan.answers.break_even if plan else ()
    if not rows:
        return "pages are read at random, and a prompt waits for them"
    least = min(rows, key=lambda row: row.bytes_per_s)
    return (
        f"below {format_decimal(least.bytes_per_s)}/s, computing a prompt of "
        f"{least.context_tokens:,} tokens is quicker"
    )


def mount_options(context: Context) -> Iterator[Outcome]:
    """Those that make writes wait, or write twice."""
    for path, on in _each(context):
        found = {option: key for option in on.options if (key := _harmful(option))}
        point = shlex.quote(str(on.mount_point))
        fixes = [
            _OPTIONS[key][1].format(point=point, path=shlex.quote(str(path)))
            for key in dict.fromkeys(found.values())
        ]
        current = "; ".join(f"`{each}`: {_OPTIONS[key][0]}" for each, key in found.items())
        yield Outcome(
            ok=not found,
            required="no option that makes writes wait",
            current=current or f"`{on.mount_point}` is mounted {','.join(on.options[:4]) or 'so'}",
            fix="; ".join(fixes) + f"; and the same for {point} in /etc/fstab",
            subject=f"`{path}`",
        )


def _harmful(option: str) -> str:
    """The key in _OPTIONS, or nothing."""
    name = option.partition("=")[0]
    if option in _OPTIONS:
        return option
    return name if name in _WITH_VALUES else ""


def scheduler(context: Context) -> Iterator[Outcome]:
    """Of each drive once, whatever number of directories lie on it."""
    seen: set[str] = set()
    for _, on in _each(context):
        for drive in on.drives:
            suited = SUITED_SCHEDULERS.get(drive.kind)
            name = f"/sys/block/{drive.name}/queue/scheduler"
            text = read_text(context.root / f"sys/class/block/{drive.name}/queue/scheduler")
            chosen = text.partition("[")[2].partition("]")[0]
            if drive.name in seen or suited is None or not chosen:
                continue
            seen.add(drive.name)
            there = text.replace("[", "").replace("]", "").split()
            best = next((each for each in suited if each in there), suited[0])
            yield Outcome(
                ok=chosen in suited,
                required=" or ".join(f"`{each}`" for each in suited),
                current=f"`{chosen}`",
                fix=write_fix(context, best, name, tuned=True),
                subject=drive.name,
                reason=f"pages are large, and {drive.name} ({drive.kind}) orders them itself"
                if drive.kind is not DriveKind.HDD
                else f"{drive.name} turns: reads near to one another go together",
            )


def measured_rate(context: Context) -> Iterator[Outcome]:
    """What `kvtier bench disk` kept, against what such a drive usually does."""
    measured, seen = read_disks(), set[str]()
    for path, on in _each(context):
        found = measured.get(on.key)
        if found is None or on.key in seen:
            continue
        seen.add(on.key)
        count = max(1, len(on.drives)) if "raid0" in on.layers else 1
        usual_read, usual_write = (count * rate for rate in DISK_CLASSES[on.drive_kind])
        is_slow = (
            found.read_bytes_per_s < usual_read * _SLOW_SHARE
            or found.write_bytes_per_s < usual_write * _SLOW_SHARE
        )
        yield Outcome(
            ok=not is_slow,
            required=f"half at least of what {on.drive_kind} usually does, "
            f"{format_decimal(usual_read)}/s read and {format_decimal(usual_write)}/s written",
            current=f"{format_decimal(found.read_bytes_per_s)}/s read and "
            f"{format_decimal(found.write_bytes_per_s)}/s written on {found.when or 'some day'}",
            fix=f"`kvtier bench disk {shlex.quote(str(path))}` measures it again, alone; then "
            f"see what else uses it; {look_after(on)}",
            subject=f"`{path}`",
            reason=rate_reason(context.plan),
        )


CHECKS = (
    Check(
        "KVT-D305",
        "disk",
        "device behind",
        Severity.WARNING,
        device_behind,
        needs=Needs.PROFILE,
        passes="L3 lies on a local disk (with a plan, KVT-P006 says where not)",
        why="A directory tells nothing of what keeps its bytes: it may be memory, a container's "
        "layer, or another host across a network. Then L3 takes memory, is gone with the "
        "container, or reads slower than the model computes. Shown is what is below, through "
        "partitions, LVM, RAID and loops. The fix is a directory on a local disk.",
    ),
    Check(
        "KVT-D306",
        "disk",
        "drives behind",
        Severity.WARNING,
        rotational,
        needs=Needs.PROFILE,
        passes="no drive behind L3 rotates",
        why="A disk that turns reads 150 MB/s in one piece and far less at random, and pages are "
        "read at random. The engine then computes most of what it could have read, and L3 only "
        "costs writes. The fix is a directory on another drive.",
    ),
    Check(
        "KVT-D307",
        "disk",
        "mount of",
        Severity.WARNING,
        mount_options,
        needs=Needs.PROFILE,
        passes="L3's file system is mounted without sync, dirsync, data=journal or compression",
        why="`sync` and `dirsync` make every write wait for the drive, `data=journal` writes each "
        "page twice, and compression spends CPU on numbers that do not shrink. The store itself "
        "syncs where it must. The fix mounts it without them; /etc/fstab keeps that for the next "
        "start.",
    ),
    Check(
        "KVT-D311",
        "disk",
        "I/O scheduler of",
        Severity.WARNING,
        scheduler,
        needs=Needs.PROFILE,
        passes="the I/O scheduler suits the drive",
        why="Schedulers that sort or share out requests (`bfq`, and on NVMe any) cost CPU and "
        "hold requests back that a flash drive would take at once; a disk that turns wants just "
        "that. The fix sets the one that suits, until the next start of the host.",
    ),
    Check(
        "KVT-D312",
        "disk",
        "measured rate of",
        Severity.WARNING,
        measured_rate,
        needs=Needs.PROFILE,
        passes="the disk was measured at half of its class's rates at least, if it was measured",
        why="A drive that is worn, hot, nearly full or shared with others reads at a part of what "
        "its kind does. The plan and the engine go by what was measured, so that nothing waits; "
        "but the disk is worth a look. The fix measures it again while nothing else uses it.",
    ),
)
