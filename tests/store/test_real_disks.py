"""Disks that really fail: loop file systems that turn read-only, or whose mount goes away."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine_process import wait_for
from support.store_client import get, open_store, put, put_all

from kvtier_store import Status, StoreError

PAGES = range(6)


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


class Disk:
    def __init__(self, folder: Path) -> None:
        self.image, self.mounted_at = folder / "image", folder / "disk"
        self.mounted_at.mkdir()
        self.image.touch()
        os.truncate(self.image, 64 << 20)
        run("mkfs.ext4", "-q", "-F", self.image)
        self.mount()

    def mount(self) -> None:
        run("mount", "-o", "loop,errors=remount-ro", self.image, self.mounted_at)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("mounting a file system takes root and mkfs.ext4")
    try:
        disk = Disk(tmp_path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop file systems here: {error.stderr.decode().strip()}")
    if not trigger(disk).exists():
        run("umount", disk.mounted_at)
        pytest.skip("this kernel has no switch to make ext4 fail")
    yield disk
    while os.path.ismount(disk.mounted_at):
        run("umount", "-l", disk.mounted_at)


def mount_entry(disk: Disk) -> tuple[str, list[str]]:
    """The device's name, and the options it is mounted with."""
    for line in Path("/proc/mounts").read_text().splitlines():
        device, place, _, options, *_ = line.split()
        if place == str(disk.mounted_at):
            return Path(device).name, options.split(",")
    raise AssertionError("not mounted")


def trigger(disk: Disk) -> Path:
    device, _ = mount_entry(disk)
    return Path("/sys/fs/ext4") / device / "trigger_fs_error"


def fail(disk: Disk) -> None:
    """As after an error on the disk: the kernel takes no more writes for the file system."""
    trigger(disk).write_text("1")
    _, options = mount_entry(disk)
    assert {"ro", "emergency_ro"} & set(options)


def test_a_disk_that_becomes_read_only_goes_on_serving_reads(disk):
    store = open_store(disk.mounted_at / "l3", pages=12)
    put_all(store, PAGES)
    store.flush()
    fail(disk)
    for i in range(100, 200):
        if put(store, i) is Status.DROPPED:
            break
    stats = store.stats()
    assert stats.degraded
    assert "writes of" in stats.degraded_reason
    assert "Read-only file system" in stats.degraded_reason
    assert stats.io_errors > 0
    assert [get(store, i) for i in PAGES] == [Status.OK] * len(PAGES)
    store.close()


def test_what_was_durable_is_there_when_the_disk_is_back(disk):
    store = open_store(disk.mounted_at / "l3", pages=12)
    put_all(store, PAGES)
    store.flush()
    fail(disk)
    put(store, 100)
    store.close()
    run("umount", disk.mounted_at)
    disk.mount()
    store = open_store(disk.mounted_at / "l3", pages=12)
    assert [get(store, i) for i in PAGES] == [Status.OK] * len(PAGES)
    assert get(store, 100) is Status.MISS
    assert put(store, 100) is Status.OK
    store.close()


def test_a_read_only_disk_is_refused_with_a_sentence(disk):
    fail(disk)
    with pytest.raises(StoreError, match="Read-only file system"):
        open_store(disk.mounted_at / "l3")


def test_a_mount_that_goes_away_is_noticed_and_nothing_is_written_below_it(disk):
    folder = disk.mounted_at / "l3"
    store = open_store(folder, pages=12, stall_timeout_s=0.2)
    put_all(store, PAGES)
    store.flush()
    run("umount", "-l", disk.mounted_at)
    wait_for(lambda: "is gone" in store.stats().degraded_reason, "the store to notice")
    folder.mkdir()  # what a script that prepares the host may do
    wait_for(lambda: not store.stats().directories[0].is_open, "the disk to be let go of")
    assert [get(store, i) for i in PAGES] == [Status.MISS] * len(PAGES)
    assert put(store, 100) is Status.DROPPED
    assert str(folder) in store.stats().degraded_reason
    assert list(folder.iterdir()) == []
    folder.rmdir()
    disk.mount()
    wait_for(lambda: not store.stats().degraded, "the store to take the disk back")
    assert [get(store, i) for i in PAGES] == [Status.OK] * len(PAGES)
    assert put(store, 100) is Status.OK
    store.flush()
    store.close()
    store = open_store(folder, pages=12)
    assert get(store, 100) is Status.OK
    store.close()


def test_another_disk_in_its_place_is_left_alone(disk, tmp_path):
    folder = disk.mounted_at / "l3"
    store = open_store(folder, pages=12, stall_timeout_s=0.2)
    put_all(store, PAGES)
    store.flush()
    run("umount", "-l", disk.mounted_at)
    other = open_store(folder, pages=12)
    put_all(other, range(100, 103))
    other.close()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
    wait_for(lambda: not store.stats().directories[0].is_open, "the disk to be let go of")
    wait_for(lambda: "mount its disk" in store.stats().degraded_reason, "a try that is refused")
    assert get(store, 100) is Status.MISS
    store.close()
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
    assert after == before
