"""Checks of the places that L3 lies in: directories, file systems, drives."""

from __future__ import annotations

import ctypes
import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.doctor.folders import usable
from kvtier_ops.host import nearest_folder
from kvtier_ops.plan.types import DiskPlan
from kvtier_ops.units import UNITS, Size, format_bytes

_PROBE_BYTES = UNITS["MiB"]
_LEFT_PERCENT_MIN = 5  # of a file system: below it ext4, XFS and drives themselves get slow
_FILES_MIN = 80  # a store's segments, of which there are 64 at first, and its other files
_NO_INODES = 0  # btrfs and others make them as they go


def directories(context: Context) -> tuple[Path, ...]:
    """L3's directories that can be looked at, or none if the profile turns L3 off."""
    return tuple(path for path in _named(context) if path not in context.silent)


def _named(context: Context) -> tuple[Path, ...]:
    if context.profile is None or (context.plan and not context.plan.disks):
        return ()
    l3 = context.profile.tiers.l3
    is_off = isinstance(l3.size, Size) and not l3.size.bytes
    return () if is_off else l3.directories


def _elsewhere(path: Path) -> str:
    return f"name another directory than `{path}` in `tiers.l3.directories`"


def directory_usable(context: Context) -> Iterator[Outcome]:
    """Exists and can be written, or can be made."""
    for path in _named(context):
        if path in context.silent:
            yield Outcome(
                False,
                "can be written, or made",
                "its file server does not answer",
                f"see the server and the network, or {_elsewhere(path)}",
                f"`{path}`",
            )
    for path in directories(context):
        current, fix = usable(path, "name another directory in `tiers.l3.directories`")
        yield Outcome(not fix, "can be written, or made", current, fix, f"`{path}`")


def directory_private(context: Context) -> Iterator[Outcome]:
    """Pages hold what users wrote: nobody else should read or change them."""
    for path in directories(context):
        try:
            found = path.stat()
        except OSError:
            continue  # KVT-D301 tells
        if not stat.S_ISDIR(found.st_mode):
            continue
        mode = stat.S_IMODE(found.st_mode)
        is_ours = found.st_uid == os.geteuid()
        yield Outcome(
            ok=is_ours and not mode & 0o077,
            required=f"0700, owned by uid {os.geteuid()}",
            current=f"{mode:04o}, owned by uid {found.st_uid}",
            fix=_ownership(path, found.st_uid),
            subject=f"`{path}`",
            reason="pages hold what users wrote",
        )


def _ownership(path: Path, owner: int) -> str:
    """Root may look after a service of another user: what is that user's is not to be taken."""
    shown = shlex.quote(str(path))
    if owner == os.geteuid():
        return f"`chmod 700 {shown}`"
    take = f"`sudo chown {os.geteuid()} {shown}`"
    if os.geteuid() != 0:
        return take
    return (
        f"if uid {owner} is who launches, run the doctor as that user (`sudo -u '#{owner}' ...`); "
        f"if root is, {take}"
    )


def direct_io(context: Context) -> Iterator[Outcome]:
    """Without O_DIRECT, L3 competes with everybody for the page cache."""
    for path in directories(context):
        nearest = _writable(path)
        if nearest is None:
            continue
        error = _direct_error(nearest)
        yield Outcome(
            ok=not error,
            required="files can be opened with O_DIRECT",
            current=error or "works",
            fix="name a directory on ext4 or XFS in `tiers.l3.directories`",
            subject=f"`{path}`",
        )


def _writable(path: Path) -> Path | None:
    """The folder to probe in; None where KVT-D301 tells what is wrong."""
    nearest = nearest_folder(path)
    may_write = os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK)
    return nearest if may_write else None


def _direct_error(folder: Path) -> str:
    """Tries on a file without a name, which the kernel removes in any case."""
    for flags in (os.O_TMPFILE, os.O_TMPFILE | os.O_DIRECT):
        try:
            os.close(os.open(folder, os.O_RDWR | flags, 0o600))
        except OSError as error:
            if not flags & os.O_DIRECT:
                return ""  # no unnamed files here: nothing can be said without writing
            return f"the file system refuses it: {error.strerror}"
    return ""


def preallocation(context: Context) -> Iterator[Outcome]:
    """fallocate, tried on a file without a name."""
    for path in directories(context):
        nearest = _writable(path)
        if nearest is None:
            continue
        try:
            fd = os.open(nearest, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        except OSError:
            continue  # no unnamed files here: nothing can be said without writing
        try:
            error = allocate(fd, _PROBE_BYTES)
        finally:
            os.close(fd)
        yield Outcome(
            ok=not error,
            required="files can be given their blocks before they are written (fallocate)",
            current=f"the file system refuses it: {os.strerror(error)}" if error else "works",
            fix=_make_room(nearest)
            if error in (errno.ENOSPC, errno.EDQUOT)
            else "name a directory on ext4 or XFS in `tiers.l3.directories`",
            subject=f"`{path}`",
        )


def _make_room(folder: Path) -> str:
    shown = shlex.quote(str(folder))
    return (
        f"it is full, or a quota is used up: free space (`df -h {shown}`, `sudo du -xhd1 $(findmnt "
        f"-nT {shown} -o TARGET) | sort -h`, `quota`), or name another directory in "
        "`tiers.l3.directories`"
    )


def allocate(fd: int, size: int) -> int:
    """fallocate(2); the error number, or 0. Python's own call writes zeroes where there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(size))
    return 0 if done == 0 else ctypes.get_errno()


def free_space(context: Context) -> Iterator[Outcome]:
    """What is left of each file system when L3 is full. What does not fit the plan says."""
    plan = context.plan
    if plan is None:
        return
    reserve = plan.profile.tiers.l3.reserve.bytes
    by_system: dict[int, list[DiskPlan]] = {}
    for disk in plan.disks:
        by_system.setdefault(disk.on.device_id, []).append(disk)
    for disks in by_system.values():
        total = disks[0].on.total_bytes
        needed = max(reserve, total * _LEFT_PERCENT_MIN // 100)
        room = sum(disk.free_bytes for disk in disks) + reserve
        taken = sum(disk.capacity_bytes for disk in disks)
        most = max(0, room - needed) // len(disks) * len(plan.disks)
        yield Outcome(
            ok=room - taken >= needed,
            required=f"{format_bytes(needed)} free when L3 is full",
            current=f"{format_bytes(max(0, room - taken))} of {format_bytes(total)} would be left",
            fix=f"set `tiers.l3.size: {most >> 20}MiB` or less, or free space",
            subject=", ".join(f"`{disk.path}`" for disk in disks),
            reason=f"L3 takes {format_bytes(taken)}, and a file system fuller than "
            f"{100 - _LEFT_PERCENT_MIN}% is slow",
        )


def inodes(context: Context) -> Iterator[Outcome]:
    """A store makes few files, but it makes them while it serves."""
    for path in directories(context):
        nearest = nearest_folder(path)
        try:
            found = os.statvfs(nearest)
        except OSError:
            continue
        if found.f_files == _NO_INODES:
            continue
        yield Outcome(
            ok=found.f_favail >= _FILES_MIN,
            required=f"{_FILES_MIN} free inodes, for the store's files",
            current=f"{found.f_favail:,} of {found.f_files:,} are free",
            fix=f"remove small files (`sudo du --inodes -xd1 {shlex.quote(str(nearest))} | sort "
            f"-n`), or {_elsewhere(path)}",
            subject=f"`{path}`",
        )


CHECKS = (
    Check(
        "KVT-D301",
        "disk",
        "L3 directory",
        Severity.FAILURE,
        directory_usable,
        needs=Needs.PROFILE,
        passes="each L3 directory can be written, or made",
        why="A directory that cannot be written or made leaves the engine without L3: it serves, "
        "and starts cold every time. The fix makes the directory for the user who launches.",
    ),
    Check(
        "KVT-D302",
        "disk",
        "mode of",
        Severity.WARNING,
        directory_private,
        needs=Needs.PROFILE,
        passes="each L3 directory is ours and 0700 (what is ours the store makes so)",
        why="Pages are computed from what users wrote, and their text can be told from them. "
        "Whoever can read the directory can read prompts; whoever can write it can remove pages, "
        "though not forge them. The fix closes it to others.",
    ),
    Check(
        "KVT-D304",
        "disk",
        "direct I/O in",
        Severity.WARNING,
        direct_io,
        needs=Needs.PROFILE,
        passes="files in the L3 directory can be opened with O_DIRECT",
        why="With O_DIRECT pages go between L2 and the disk without a copy. Without, every page "
        "passes through the page cache: slower, and at the expense of whatever else the host "
        "keeps there, such as the weights. The fix is a file system that has it.",
    ),
    Check(
        "KVT-D308",
        "disk",
        "space for",
        Severity.WARNING,
        free_space,
        needs=Needs.PLAN,
        passes="5 % of the file system stay free when L3 is full, and `tiers.l3.reserve`",
        why="A file system that is nearly full looks long for free blocks, and a drive that is "
        "nearly full moves its own data about before each write: both make L3 slower, and "
        "other programs fail for want of space. The fix makes L3 smaller.",
    ),
    Check(
        "KVT-D309",
        "disk",
        "inodes for",
        Severity.FAILURE,
        inodes,
        needs=Needs.PROFILE,
        passes="the file system has inodes for the store's files",
        why="A file system with space but without inodes refuses new files with `No space left "
        "on device`. The store then cannot be made or cannot grow, and L3 stays small or away. "
        "The fix finds where the many files are.",
    ),
    Check(
        "KVT-D310",
        "disk",
        "preallocation in",
        Severity.WARNING,
        preallocation,
        needs=Needs.PROFILE,
        passes="files in the L3 directory can be given their blocks beforehand",
        why="The store takes its blocks in large steps before it writes, so that pages lie in one "
        "piece and a full disk is noticed early. Without, files grow page by page, in pieces, "
        "and a write may find the disk full. The fix is a file system that has fallocate, or more "
        "room on one that is full.",
    ),
)
