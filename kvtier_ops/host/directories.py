"""The directories that a profile names for L3, and what they lie on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from kvtier_ops.errors import BadInput, HostError
from kvtier_ops.host.mounts import MountTable
from kvtier_ops.host.types import DirectoryFacts, FileSystem, Host


def nearest_folder(path: Path) -> Path:
    """`path`, or the first above it that exists, as far as this user may see."""
    while not os.path.exists(path) and path != path.parent:  # `Path.exists` raises EACCES
        path = path.parent
    return path


def is_read_only(path: Path) -> bool:
    """By how its file system is mounted, whoever asks."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def read_directory(path: Path, mounts: MountTable) -> DirectoryFacts:
    """Raises HostError for a directory that cannot be looked at."""
    if not mounts.answers(path):
        raise HostError(
            f"cannot look at `{path}`: its file server does not answer",
            "see the server and the network, or choose another directory in `tiers.l3.directories`",
        )
    try:
        nearest = nearest_folder(path)
        exists = path.is_dir()
        return DirectoryFacts(
            path=path,
            exists=exists,
            used_bytes=_used_bytes(path) if exists else 0,
            on=mounts.holding(nearest.resolve()),
        )
    except OSError as error:
        hint = "choose another directory in `tiers.l3.directories`"
        raise HostError(f"cannot look at `{path}`: {error.strerror}", hint) from error


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


def with_directories(host: Host, paths: Iterable[Path]) -> Host:
    """A recorded host with these directories on its file systems, none of them made yet. File
    systems of `--what-if` take the directories in turn. Raises BadInput."""
    paths = tuple(paths)
    supposed = [each for each in host.file_systems if each.mount_point.is_relative_to(SUPPOSED)]
    found = {}
    for number, path in enumerate(paths):
        on = supposed[number % len(supposed)] if supposed else _holding(host, path)
        found[path] = DirectoryFacts(path=path, exists=False, used_bytes=0, on=on)
    return replace(host, directories=found)


SUPPOSED = Path("/what-if")  # where the disks of `--what-if` are mounted


def _holding(host: Host, path: Path) -> FileSystem:
    fitting = [each for each in host.file_systems if path.is_relative_to(each.mount_point)]
    if not fitting:
        raise BadInput(
            f"the recorded host has no file system for `{path}`",
            "record it again, or name disks by `--what-if disk=1x2TB-nvme`",
            field="tiers.l3.directories",
        )
    return max(fitting, key=lambda each: len(each.mount_point.parts))
