"""What the store does when its system calls fail; test_injected_faults.py runs this."""

from __future__ import annotations

import contextlib
import errno
import random
from pathlib import Path

import pytest
from store.injected.stores import (
    PAGES,
    Pages,
    filled,
    in_time,
    opens,
    statuses_of,
    threads,
    until_in_use,
)
from support.disk_faults import Faults
from support.engine_process import wait_for
from support.store_client import get, key, put, put_all

from kvtier_store import Status, StoreError


@pytest.mark.parametrize("error", [errno.EIO, errno.ENXIO, errno.ENODATA])
def test_reads_that_fail(folder: Path, faults: Faults, error: int) -> None:
    store = filled(folder, probe_interval_s=3600)
    with faults.failing("read", error):
        assert [get(store, i) for i in range(5)] == [Status.IO_ERROR] * 5
        stats = store.stats()
        assert stats.degraded
        assert str(folder) in stats.degraded_reason
        assert not stats.directories[0].reads_in_use
        assert stats.io_errors == stats.directories[0].io_errors == 5
        # Nothing is asked of the disk any more.
        met = faults.hits("read")
        assert get(store, 6) is Status.MISS
        assert put(store, 100) is Status.DROPPED
        assert faults.hits("read") == met
    store.close()
    store = threads(folder)
    assert [get(store, i) for i in (6, 7)] == [Status.OK] * 2
    store.close()


def test_a_disk_that_works_again_is_taken_back(folder: Path, faults: Faults) -> None:
    store = filled(folder)
    with faults.failing("read", errno.EIO, where="everywhere"):
        for i in range(5):
            assert get(store, i) is Status.IO_ERROR
        met = faults.hits("read")
        wait_for(lambda: faults.hits("read") > met, "a probe, which fails")
        assert store.stats().degraded
    until_in_use(store)
    assert [get(store, i) for i in (5, 6, 7)] == [Status.OK] * 3
    assert put(store, 100) is Status.OK
    store.close()


def test_one_bad_spot_is_one_page(folder: Path, faults: Faults) -> None:
    store = filled(folder)
    with faults.failing("read", errno.EIO, count=1):
        assert get(store, 3) is Status.IO_ERROR
    assert get(store, 3) is Status.MISS
    assert put(store, 3) is Status.OK
    assert [get(store, i) for i in PAGES] == [Status.OK] * 8
    assert not store.stats().degraded
    store.close()


def test_a_bit_that_flips_on_its_way_is_a_lost_page(folder: Path, faults: Faults) -> None:
    store = filled(folder)
    faults.flip(count=len(PAGES))
    statuses = [get(store, i) for i in PAGES]
    lost = statuses.count(Status.CORRUPT)
    assert 0 < lost == len(PAGES) - statuses.count(Status.OK)  # OK: a bit that nobody looks at
    assert sum(store.stats().corrupt.values()) == lost
    again = [Status.MISS if status is Status.CORRUPT else Status.OK for status in statuses]
    assert [get(store, i) for i in PAGES] == again
    assert not store.stats().degraded
    store.close()


@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS])
def test_writes_that_fail_leave_the_reads(folder: Path, faults: Faults, error: int) -> None:
    store = filled(folder)
    with faults.failing("write", error, where="everywhere"):
        statuses = [put(store, i) for i in range(100, 107)]
        assert statuses == [Status.IO_ERROR] * 5 + [Status.DROPPED] * 2
        assert not store.stats().directories[0].writes_in_use
        assert [get(store, i) for i in PAGES] == [Status.OK] * 8
    until_in_use(store)
    assert put(store, 100) is Status.OK
    assert get(store, 100) is Status.OK
    store.close()


def test_a_failed_sync_is_told_and_its_pages_are_gone(folder: Path, faults: Faults) -> None:
    store = filled(folder, commit_interval_s=3600)
    put_all(store, range(100, 103))
    with faults.failing("sync", errno.EIO), pytest.raises(StoreError, match="durable"):
        store.flush()
    assert [get(store, i) for i in range(100, 103)] == [Status.MISS] * 3
    assert [get(store, i) for i in PAGES] == [Status.OK] * 8
    put_all(store, range(100, 103))
    store.flush()
    store.close()
    store = threads(folder)
    assert [get(store, i) for i in range(100, 103)] == [Status.OK] * 3
    store.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_write_without_room_evicts_once_and_then_refuses(
    folder: Path, faults: Faults, error: int
) -> None:
    store = filled(folder)
    with faults.failing("write", error, count=1):
        assert put(store, 100) is Status.OK  # in the place of an older page
    assert store.stats().evicted == 1
    with faults.failing("write", error):
        assert put(store, 101) is Status.NO_ROOM
        assert [get(store, i) for i in (5, 6, 7)] == [Status.OK] * 3
    stats = store.stats()
    assert stats.evicted == 2
    assert stats.dropped_writes == 1
    assert not stats.degraded
    assert put(store, 101) is Status.OK
    store.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_gives_no_more_blocks_recycles(
    folder: Path, faults: Faults, error: int
) -> None:
    # Slots of four to a step of growth.
    store = threads(folder, pages=12)
    with faults.failing("allocate", error):
        assert put(store, 0) is Status.NO_ROOM
    wait_for(lambda: put(store, 0) is Status.OK, "the next try to grow")
    store.close()


def test_what_the_kernel_cuts_short_is_resumed(folder: Path, faults: Faults) -> None:
    store = filled(folder)
    with faults.failing("read", 0, shorten=4096):
        assert [get(store, i) for i in PAGES] == [Status.OK] * 8
    with faults.failing("write", 0, shorten=4096):
        put_all(store, range(100, 104))
    assert [get(store, i) for i in range(100, 104)] == [Status.OK] * 4
    with faults.failing("read", errno.EINTR, count=3):
        assert get(store, 100) is Status.OK
    assert store.stats().corrupt == {}
    assert store.stats().io_errors == 0
    store.close()


def test_reads_of_a_disk_that_stands_still(folder: Path, faults: Faults) -> None:
    store = filled(folder, read_depth=2, read_timeout_s=0.05, stall_timeout_s=3600)
    faults.stall("read")
    pages = Pages()
    in_time(lambda: store.submit_get([pages.get(i) for i in PAGES]))
    wait_for(lambda: faults.waiting("read") == 2, "two reads to stand still")
    # Those in the queue end by their deadline, those at the disk not before it lets go.
    assert statuses_of(store, 6) == [Status.TIMED_OUT] * 6
    assert in_time(lambda: store.contains([key(1)])) == [True]
    assert in_time(store.stats).timed_out_reads == 6
    assert in_time(store.poll) == []
    faults.clear()
    assert statuses_of(store, 2) == [Status.OK] * 2
    store.close()


def test_a_disk_that_stands_still_is_left_alone_until_it_answers(
    folder: Path, faults: Faults
) -> None:
    store = filled(folder, read_depth=2, stall_timeout_s=0.05)
    faults.stall("read")
    pages = Pages()
    store.submit_get([pages.get(i) for i in PAGES])
    wait_for(lambda: store.stats().degraded, "the disk to be given up")
    assert "does not answer" in store.stats().degraded_reason
    assert statuses_of(store, 6) == [Status.IO_ERROR] * 6
    assert in_time(lambda: store.contains([key(1)])) == [False]
    assert put(store, 100) is Status.DROPPED
    faults.clear()
    assert statuses_of(store, 2) == [Status.OK] * 2
    until_in_use(store)
    assert [get(store, i) for i in PAGES] == [Status.OK] * 8
    store.close()


def test_writes_to_a_disk_that_stands_still(folder: Path, faults: Faults) -> None:
    store = filled(folder, write_depth=2, write_queue=5, stall_timeout_s=0.2, pages=100)
    faults.stall("write")
    pages = Pages()
    in_time(lambda: store.submit_put([pages.put(i) for i in range(100, 110)]))
    # No more wait than may; the others are dropped at once, and those that wait once the disk
    # has been given up.
    assert statuses_of(store, 8) == [Status.DROPPED] * 8
    assert in_time(store.stats).dropped_writes == 8
    faults.clear()
    assert statuses_of(store, 2) == [Status.OK] * 2
    until_in_use(store)
    put_all(store, range(110, 120))
    store.close()


def test_closing_beside_a_disk_that_stands_still(folder: Path, faults: Faults) -> None:
    store = filled(folder, close_timeout_s=0.05)
    faults.stall("read")
    pages = Pages()
    store.submit_get([pages.get(1)])
    wait_for(lambda: faults.waiting("read") == 1, "a read to stand still")
    with pytest.raises(StoreError, match="does not answer"):
        store.close()
    with pytest.raises(StoreError, match="in use by"):
        threads(folder)
    faults.clear()
    assert statuses_of(store, 1) == [Status.OK]
    wait_for(lambda: opens(folder), "the directory to be let go of")


def test_a_file_system_that_takes_the_flag_and_refuses_the_transfer(
    folder: Path, faults: Faults
) -> None:
    filled(folder).close()
    with faults.failing("probe", errno.EINVAL, count=1, where="others"):
        store = threads(folder)
    assert [directory.direct_io for directory in store.stats().directories] == [False]
    assert [get(store, i) for i in PAGES] == [Status.OK] * 8
    assert put(store, 100) is Status.OK
    assert get(store, 100) is Status.OK
    store.close()
    store = threads(folder)
    assert [directory.direct_io for directory in store.stats().directories] == [True]
    store.close()


@pytest.mark.parametrize(
    ("kind", "error"), [("open", errno.EIO), ("open", errno.EMFILE), ("sync", errno.EIO)]
)
def test_an_opening_that_fails_says_why(
    folder: Path, faults: Faults, kind: str, error: int
) -> None:
    with (
        faults.failing(kind, error, where="everywhere"),
        pytest.raises(StoreError, match=f"cannot .*{folder.name}"),
    ):
        threads(folder)
    threads(folder).close()


ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EINTR, errno.EAGAIN)


def soak(folder: Path, faults: Faults, seed: int, steps: int) -> None:
    """Whatever fails is a miss or a refusal; what is durable stays unless a fault took it."""
    chance = random.Random(seed)
    store = threads(folder, pages=12, commit_interval_s=0.001, stall_timeout_s=5)
    for _ in range(steps):
        i = chance.randrange(30)
        match chance.randrange(12):
            case 0 | 1:
                kind = chance.choice(("read", "write", "sync", "allocate"))
                where = chance.choice(("everywhere", "segments", "others"))
                count = chance.choice((1, 3, 20))
                if chance.randrange(3) == 0 and kind in ("read", "write"):
                    faults.fail(kind, 0, count=count, shorten=4096, where="segments")
                else:
                    faults.fail(kind, chance.choice(ERRORS), count=count, where=where)
            case 2:
                faults.clear()
            case 3:
                with contextlib.suppress(StoreError):  # what was written last is not durable
                    store.close()
                faults.clear()
                store = threads(folder, pages=12, commit_interval_s=0.001)
            case 4:
                store.evict([key(i)])
            case 5 | 6 | 7 | 8:
                put(store, i)
            case _:
                get(store, i)  # fails on wrong bytes
    faults.clear()
    store.close()
    store = threads(folder, pages=12)
    # A close that failed may have left the journal behind the slots: misses, and only once.
    assert {get(store, i) for i in range(30)} <= {Status.OK, Status.MISS, Status.CORRUPT}
    assert {get(store, i) for i in range(30)} <= {Status.OK, Status.MISS}
    put_all(store, range(200, 205))
    report = store.verify()
    assert report.bad == {}
    assert report.unreadable == 0
    store.close()


@pytest.mark.parametrize("seed", range(4))
def test_any_fault_at_any_time(folder: Path, faults: Faults, seed: int) -> None:
    before = sum(faults.hits(kind) for kind in ("read", "write", "sync"))
    soak(folder, faults, seed, 300)
    assert sum(faults.hits(kind) for kind in ("read", "write", "sync")) > before + 10


@pytest.mark.slow
def test_any_fault_for_long(folder: Path, faults: Faults) -> None:
    for seed in range(100, 400):
        soak(folder / str(seed), faults, seed, 1000)
