"""Real file systems, mounted for a test and taken away again."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(kind: str, options: str, at: Path, source: str = "none") -> Iterator[Path]:
    """Skips the test where it cannot be mounted."""
    at.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", kind, "-o", options, source, str(at)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"{' '.join(command)}: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


@contextmanager
def dead_server(at: Path) -> Iterator[Path]:
    """A file system of a network whose server says nothing: whoever looks there hangs, until this
    ends. Skips the test where it cannot be mounted."""
    at.mkdir(parents=True, exist_ok=True)
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"/dev/fuse: {error.strerror}")
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
    arguments = (b"server:/pages", os.fsencode(at), b"fuse.sshfs", 0, options.encode())
    try:
        if libc.mount(*arguments) != 0:
            pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
        try:
            yield at
        finally:
            libc.umount2(os.fsencode(at), 2)  # MNT_DETACH
    finally:
        os.close(fd)  # who hangs goes on


@contextmanager
def ext4(folder: Path, options: str, mib: int = 16) -> Iterator[Path]:
    """On a loop device over a file in `folder`."""
    image = folder / "ext4.image"
    image.touch()
    with image.open("r+b") as file:
        file.truncate(mib << 20)
    done = subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"mkfs.ext4: {done.stderr.strip()}")
    with mounted("ext4", f"loop,{options}", folder / "ext4", str(image)) as place:
        yield place
