"""A file system that runs full, and one that goes read-only, for real: a small tmpfs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine_process import wait_for
from support.store_client import get, key, open_store, put, put_all

from kvtier_store import Status, Store, StoreError, inspect

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


def generation(folder: Path) -> int:
    return inspect(str(folder)).journal_generation


def fill_the_journal(store: Store, hog: Path) -> None:
    """Puts, in the place of others, until the full disk keeps the journal from being replaced."""
    fill(hog)
    statuses: list[Status] = []
    while Status.DROPPED not in statuses[-50:]:
        assert len(statuses) < 10_000, "there is still room in the journal"
        statuses += [put(store, 1000 + len(statuses) + i) for i in range(50)]
        with contextlib.suppress(StoreError):
            store.flush()
    assert set(statuses) == {Status.OK, Status.DROPPED}
    assert statuses.count(Status.OK) > 700  # of two records each
    stats = store.stats()
    assert "No space left on device" in stats.degraded_reason
    assert (stats.directories[0].reads_in_use, stats.directories[0].writes_in_use) == (True, False)


KEPT = range(8)


@pytest.fixture
def full(small: Path) -> Store:
    """Of the pages in it `KEPT` are durable and pinned."""
    store = open_store(small / "l3", pages=24, commit_interval_s=0.01)
    put_all(store, KEPT)
    store.pin([key(i) for i in KEPT])
    store.flush()
    before = generation(small / "l3")
    fill_the_journal(store, small / "hog")
    assert generation(small / "l3") == before
    return store


def test_a_disk_too_full_for_a_fresh_journal_serves_reads_until_there_is_room(small, full):
    folder, before = small / "l3", generation(small / "l3")
    assert [get(full, i) for i in KEPT] == [Status.OK] * len(KEPT)
    with pytest.raises(StoreError, match="No space left on device"):
        full.flush()
    (small / "hog").unlink()
    wait_for(lambda: not full.stats().degraded, "the store to write again")
    assert generation(folder) > before
    put_all(full, range(200, 210))
    full.flush()
    numbers = range(12_000)
    held = full.contains([key(i) for i in numbers])
    full.close()
    store = open_store(folder, pages=24)
    assert store.contains([key(i) for i in numbers]) == held
    present = [i for i in numbers if held[i]]
    assert len(present) == 24
    assert {*KEPT, *range(200, 210)} <= set(present)
    assert [get(store, i) for i in present] == [Status.OK] * len(present)
    store.close()


def test_a_crash_on_such_a_disk_loses_nothing_that_was_durable(small, full, tmp_path):
    shutil.copytree(small / "l3", tmp_path / "copy")
    (small / "hog").unlink()
    full.close()
    store = open_store(tmp_path / "copy", pages=24)
    assert [get(store, i) for i in KEPT] == [Status.OK] * len(KEPT)
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
    wait_for(lambda: not store.stats().directories[0].is_open, "the directory to be let go of")
    assert str(folder) in store.stats().degraded_reason
    assert [get(store, i) for i in range(3)] == [Status.MISS] * 3
    assert put(store, 50) is Status.DROPPED
    assert not folder.exists()
    store.close()
