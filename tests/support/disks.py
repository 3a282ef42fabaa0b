"""A disk with a file system that fails or stands still when told to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SERVER = Path(__file__).with_name("fuse_disk.py")


class NoSuchDisk(Exception):
    """This host cannot have one; the message says why."""


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise NoSuchDisk(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


class FailingDisk:
    """fuse_disk.py's file below a loop device below ext4, mounted at `mounted_at`.

    Without a file system's journal, as that would keep it from being written to for ever after.
    """

    def __init__(self, folder: Path, image_bytes: int = 64 << 20) -> None:
        if os.geteuid() != 0 or not shutil.which("mkfs.ext4") or not os.path.exists("/dev/fuse"):
            raise NoSuchDisk("it takes root, mkfs.ext4 and /dev/fuse")
        self._below, self.mounted_at = folder / "below", folder / "disk"
        self._loop = ""
        self._image = folder / "image"
        self._image.touch()
        os.truncate(self._image, image_bytes)
        for place in (self._below, self.mounted_at):
            place.mkdir()
        self._server = subprocess.Popen(
            [sys.executable, "-P", str(SERVER), str(self._image), str(self._below)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._expect("ready")
            self._loop = run("losetup", "--find", "--show", self._below / "disk")
            run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", self._loop)
            run("mount", "-o", "errors=continue", self._loop, self.mounted_at)
        except BaseException:
            self.remove()
            raise

    def _expect(self, line: str) -> None:
        assert self._server.stdout is not None
        said = self._server.stdout.readline().strip()
        if said != line:
            raise NoSuchDisk(f"fuse_disk.py says `{said}`")

    def _order(self, order: str) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(order + "\n")
        self._server.stdin.flush()
        self._expect(order)

    def fail(self) -> None:
        """Reads, writes and syncs end with EIO."""
        self._order("fail")

    def stall(self) -> None:
        """They do not end."""
        self._order("stall")

    def work(self) -> None:
        """Also those that stood still do now."""
        self._order("work")

    def remove(self) -> None:
        """Also if it stands still, and if it came only half about."""
        if self._server.poll() is None:
            self._order("work")
        if os.path.ismount(self.mounted_at):
            run("umount", "-l", self.mounted_at)
        if self._loop:
            run("losetup", "-d", self._loop)
        if os.path.ismount(self._below):
            run("umount", "-l", self._below)
        self._server.communicate()  # its input ends, and so it does
