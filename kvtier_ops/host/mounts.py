"""Mounted file systems, and the drives behind them."""

from __future__ import annotations

import math
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.host.drives import device_folders, read_stack
from kvtier_ops.host.sysfs import read_text
from kvtier_ops.host.types import Drive, DriveKind, FileSystem

_MEMORY = ("tmpfs", "ramfs", "hugetlbfs")
_NETWORK = (
    *("nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "afs"),
    *("fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.juicefs", "fuse.rclone", "fuse.ceph"),
    *("fuse.glusterfs", "fuse.blobfuse2", "fuse.mountpoint-s3", "orangefs", "ocfs2", "gfs2"),
)
_VIRTUAL = ("9p", "virtiofs", "vboxsf", "fuse.vmhgfs-fuse", "prl_fs")
_PSEUDO = (
    *("proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "securityfs", "debugfs", "bpf"),
    *("tracefs", "mqueue", "pstore", "configfs", "fusectl", "binfmt_misc", "autofs", "efivarfs"),
    *("rpc_pipefs", "nsfs", "squashfs", "ramfs", "hugetlbfs", "selinuxfs", "iso9660", "nullfs"),
    *("fuse.lxcfs", "fuse.portal", "fuse.gvfsd-fuse"),
)
_HIDDEN = tuple(map(Path, ("/proc", "/sys", "/dev", "/run", "/snap")))
ANSWER_S_MAX = 2.0  # of a file system on a network
ASK_AGAIN_S = 10.0  # one that did not is taken for dead so long
_SILENT: dict[Path, float] = {}  # mount point -> when it did not answer
_UNENDED: list[subprocess.Popen[bytes]] = []
_OVERLAYS_MAX = 8  # one above the other

Usage = Callable[[Path], tuple[int, int]]  # mount point -> bytes in all, bytes that we may write


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo."""

    major_minor: str
    point: Path
    kind: str
    source: str
    options: tuple[str, ...]  # of the mount and of the file system


def disk_usage(point: Path) -> tuple[int, int]:
    """In bytes; what is kept for root is nobody's. Raises OSError."""
    found = os.statvfs(point)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


class MountTable:
    """All mounts, the last one first where several have the same point."""

    def __init__(self, root: Path = Path("/"), usage: Usage = disk_usage) -> None:
        self._root = root
        self._usage = usage
        lines = read_text(root / "proc/self/mountinfo").splitlines()
        parsed = [mount for line in lines if (mount := _parse(line)) is not None]
        self._mounts = {mount.point: mount for mount in parsed}  # the last one hides the others

    def holding(self, path: Path) -> FileSystem:
        """Of the longest mount point that `path`, which is real, lies below. Raises OSError."""
        mount = self._mount_of(path)
        if mount is None:
            total, free = self._usage(path)
            return FileSystem(path, "", "", 0, total, free)
        return self._file_system(mount)

    def all(self) -> tuple[FileSystem, ...]:
        """Those that somebody might keep pages on, by mount point. What does not answer is left
        out."""
        found = []
        for point, mount in sorted(self._mounts.items()):
            is_hidden = any(map(point.is_relative_to, _HIDDEN)) and point != Path("/dev/shm")
            if mount.kind in _PSEUDO or is_hidden:
                continue
            try:
                if self._root == Path("/") and not _is_folder(mount):
                    continue  # a file that a container bound, or a server that does not answer
                found.append(self._file_system(mount))
            except OSError:
                continue
        return tuple(found)

    def answers(self, path: Path) -> bool:
        """False where `path`, links in it aside, lies on a network whose server says nothing:
        whoever looks there does not return."""
        mount = self._mount_of(path)
        if mount is None or not _is_remote(mount):
            return True
        if time.monotonic() - _SILENT.get(mount.point, -math.inf) < ASK_AGAIN_S:
            return False
        if _is_folder(mount):
            return True
        _SILENT[mount.point] = time.monotonic()
        return False

    def options_at(self, path: Path) -> tuple[str, ...]:
        """Of the mount that `path` lies below; none where nothing is known of it."""
        mount = self._mount_of(path)
        return mount.options if mount is not None else ()

    def _mount_of(self, path: Path) -> Mount | None:
        for point in (path, *path.parents):
            if point in self._mounts:
                return self._mounts[point]
        return None

    def _file_system(self, mount: Mount) -> FileSystem:
        total, free = self._usage(mount.point)
        kind, layers, drives = self._below(mount, 0)
        return FileSystem(
            mount_point=mount.point,
            kind=mount.kind,
            device=mount.source,
            device_id=_device_id(mount.major_minor),
            total_bytes=total,
            free_bytes=min(free, total),
            drive_kind=kind,
            drives=tuple(drives),
            layers=tuple(layers),
            options=mount.options,
        )

    def _below(self, mount: Mount, depth: int) -> tuple[DriveKind, list[str], list[Drive]]:
        """What keeps the bytes: the kind of the slowest drive, the layers, the drives."""
        kind = _kind_of(mount.kind)
        if kind is not None:
            return kind, [], []
        if mount.kind == "overlay":
            return self._below_overlay(mount, depth)
        devices = device_folders(self._root, mount.major_minor, mount.source)
        stack = read_stack(devices, self._device_of)
        return stack.kind, stack.layers, stack.drives

    def _below_overlay(self, mount: Mount, depth: int) -> tuple[DriveKind, list[str], list[Drive]]:
        """The file system of its upper directory, where this namespace sees it: in a container the
        path is the host's."""
        upper = next((o.partition("=")[2] for o in mount.options if o.startswith("upperdir=")), "")
        below = self._mount_of(Path(upper)) if upper.startswith("/") else None
        if below is None or below.point == mount.point or depth >= _OVERLAYS_MAX:
            return DriveKind.OVERLAY, [], []
        _, layers, drives = self._below(below, depth + 1)
        return DriveKind.OVERLAY, ["overlay", *layers], drives

    def _device_of(self, file: Path) -> Path | DriveKind:
        """What is below the file of a loop device."""
        mount = self._mount_of(file)
        if mount is None:
            return DriveKind.UNKNOWN
        kind = _kind_of(mount.kind) or (DriveKind.OVERLAY if mount.kind == "overlay" else None)
        if kind is not None:
            return kind
        devices = device_folders(self._root, mount.major_minor, mount.source)
        return devices[0] if devices else DriveKind.UNKNOWN


def _is_remote(mount: Mount) -> bool:
    return mount.kind in _NETWORK or mount.kind.startswith("fuse.")


def _is_folder(mount: Mount) -> bool:
    """A network's is asked in a process of its own: one that is dead holds for ever who asks it."""
    if not _is_remote(mount):
        return mount.point.is_dir()
    command = ["stat", "-f", "-c", "%T", str(mount.point)]
    try:
        asked = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    try:
        return asked.wait(ANSWER_S_MAX) == 0
    except subprocess.TimeoutExpired:
        asked.kill()
    try:
        asked.wait(0.1)
    except subprocess.TimeoutExpired:
        _UNENDED.append(asked)  # the kernel holds it: nobody waits for it
    return False


def _kind_of(file_system: str) -> DriveKind | None:
    """None: it lies on a block device."""
    if file_system in _MEMORY:
        return DriveKind.MEMORY
    if file_system in _NETWORK:
        return DriveKind.NETWORK
    if file_system in _VIRTUAL:
        return DriveKind.VIRTUAL
    is_foreign = file_system.startswith("fuse.") or file_system == "zfs"
    return DriveKind.UNKNOWN if is_foreign else None


def _parse(line: str) -> Mount | None:
    """None for a line that is not as proc(5) says."""
    before, dash, after = line.partition(" - ")
    first, last = before.split(" "), after.split(" ")
    if not dash or len(first) < 6 or len(last) < 2:
        return None
    options = first[5].split(",") + (last[2].split(",") if len(last) > 2 else [])
    return Mount(
        major_minor=first[2],
        point=Path(_unescaped(first[4])),
        kind=last[0],
        source=_unescaped(last[1]),
        options=tuple(dict.fromkeys(filter(None, options))),
    )


def _unescaped(text: str) -> str:
    """`\\\\040` stands for a space."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _device_id(major_minor: str) -> int:
    """As one number; 0 for what is not `259:1`."""
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", major_minor, re.ASCII)
    return int(match[1]) << 20 | int(match[2]) if match else 0
