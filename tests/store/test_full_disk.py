"""A file system that runs full, and one that goes read-only, for real: a small tmpfs."""

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

MIB = 1 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "kvtier-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True) if os.geteuid() == 0 else None
    if done is None or done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip() if done else 'not root'}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Writes until the file system has no room."""
    with path.open("wb", buffering=0) as hog:
        while os.statvfs(path).f_bavail:
            hog.write(bytes(4096))


def test_a_disk_smaller_than_the_capacity_is_used_up_to_the_reserve(small):
    reserve = MIB // 2
    store = open_store(small / "l3", pages=3000, reserve_bytes=reserve)
    for i in range(300):
        assert put(store, i) is Status.OK
        assert get(store, i) is Status.OK
    stats = store.stats()
    assert 50 < stats.pages < 300
    assert stats.evicted == 300 - stats.pages
    free = os.statvfs(small)
    assert free.f_bavail * free.f_frsize >= reserve
    store.flush()
    store.close()
    store = open_store(small / "l3", pages=3000)
    assert get(store, 299) is Status.OK
    store.close()


def test_a_disk_that_others_fill_goes_on_recycling(small):
    store = open_store(small / "l3", pages=100)
    put_all(store, range(5))
    fill(small / "hog")
    held = store.stats().pages
    for i in range(100, 140):
        assert put(store, i) is Status.OK
        assert get(store, i) is Status.OK
    store.flush()
    assert store.stats().pages >= held
    store.close()


def test_a_disk_too_full_for_a_journal_is_refused_with_a_sentence(small):
    (small / "hog").write_bytes(bytes(2 * MIB - 8 * 4096))
    with pytest.raises(StoreError, match=r"cannot write the journal in .*No space left on device"):
        open_store(small / "l3")


def test_a_full_disk_can_be_given_a_smaller_store(small):
    store = open_store(small / "l3", pages=150)
    put_all(store, range(150))
    store.close()
    fill(small / "hog")
    store = open_store(small / "l3", pages=40)
    assert store.stats().recovered_pages == 40
    assert all(get(store, i) is Status.OK for i in range(110, 150))
    free = os.statvfs(small)
    assert free.f_bavail * free.f_frsize > MIB // 4
    store.close()
    store = open_store(small / "l3", pages=40)
    assert store.stats().recovered_pages == 40
    store.close()


def test_a_read_only_remount_serves_reads_and_comes_back(small):
    store = open_store(small, pages=100)
    put_all(store, range(5))
    store.flush()
    store.close()

    # A file that is open for writing would keep the mount from going read-only.
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    with pytest.raises(StoreError, match="Read-only file system"):
        open_store(small, pages=100)
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    store = open_store(small, pages=100)
    assert get(store, 3) is Status.OK
    store.close()


def test_a_directory_that_vanishes_is_noticed_and_takes_no_one_down(tmp_path):
    folder = tmp_path / "l3"
    store = open_store(folder, stall_timeout_s=0.2)
    put_all(store, range(3))
    store.flush()
    shutil.rmtree(folder)
    wait_for(lambda: "is gone" in store.stats().degraded_reason, "the store to notice")
    wait_for(lambda: not store.stats().directories[0].is_open, "the directory to be let go of")
    assert [get(store, i) for i in range(3)] == [Status.MISS] * 3
    assert put(store, 50) is Status.DROPPED
    assert not folder.exists()
    store.close()
