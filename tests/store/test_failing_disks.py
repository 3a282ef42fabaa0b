"""A disk that fails or stands still, for real, and then works again: through both I/O engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store.injected.stores import (
    PAGES,
    Pages,
    in_time,
    opens,
    statuses_of,
    until_in_use,
)
from support.disks import FailingDisk, NoSuchDisk
from support.engine_process import wait_for
from support.store_client import get, key, open_store, put, put_all

from kvtier_store import IoEngine, Status, Store, StoreError


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    try:
        disk = FailingDisk(tmp_path)
    except NoSuchDisk as why:
        pytest.skip(f"no disk that fails: {why}")
    yield disk
    disk.remove()


@pytest.fixture(params=[IoEngine.THREADS, IoEngine.IO_URING], ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> IoEngine:
    return request.param


def filled(disk: FailingDisk, engine: IoEngine, **options: Any) -> Store:
    """With `PAGES` durable; those whose numbers are higher have their room already."""
    try:
        store = open_store(disk.mounted_at / "l3", pages=12, io_engine=engine, **options)
    except StoreError as error:
        if "forbids" in str(error):
            pytest.skip("no io_uring here")
        raise
    assert store.stats().io_engine is engine
    assert store.stats().directories[0].direct_io
    put_all(store, PAGES)
    store.flush()
    return store


def works_as_before(store: Store, present: range) -> None:
    assert [get(store, i) for i in present] == [Status.OK] * len(present)
    put_all(store, [200, 201])
    store.flush()
    assert [get(store, i) for i in (200, 201)] == [Status.OK] * 2


def reopened(disk: FailingDisk, store: Store) -> Store:
    store.close()
    return open_store(disk.mounted_at / "l3", pages=12)


def test_a_disk_that_fails_is_misses_until_it_works(disk, engine):
    store = filled(disk, engine)
    disk.fail()
    statuses = [get(store, i) for i in range(5)]
    assert statuses == [Status.IO_ERROR] * 5
    stats = store.stats()
    assert stats.degraded
    assert "Input/output error" in stats.degraded_reason
    assert (stats.io_errors, stats.corrupt) == (5, {})
    assert get(store, 6) is Status.MISS
    assert put(store, 100) is Status.DROPPED
    disk.work()
    until_in_use(store)
    works_as_before(store, range(5, 8))  # the others' places are not tried again
    store = reopened(disk, store)
    assert {get(store, i) for i in (5, 6, 7, 200, 201)} == {Status.OK}
    store.close()


def test_a_disk_that_takes_no_writes_drops_them_until_it_works(disk, engine):
    store = filled(disk, engine)
    disk.fail()
    statuses = [put(store, i) for i in range(100, 107)]
    assert set(statuses) <= {Status.IO_ERROR, Status.DROPPED}
    assert statuses[-1] is Status.DROPPED
    stats = store.stats()
    assert "Input/output error" in stats.degraded_reason
    assert not stats.directories[0].writes_in_use
    disk.work()
    until_in_use(store)
    works_as_before(store, PAGES)
    store = reopened(disk, store)
    held = [i for i in (*PAGES, 200, 201) if store.contains([key(i)]) == [True]]
    assert {200, 201} <= set(held)
    assert {get(store, i) for i in held} == {Status.OK}
    store.close()


def test_a_disk_that_stands_still_holds_up_nobody(disk, engine):
    store = filled(disk, engine, stall_timeout_s=2)
    disk.stall()
    pages = Pages()
    in_time(lambda: store.submit_get([pages.get(1)]))
    wait_for(lambda: in_time(store.stats).degraded, "the disk to be given up")
    assert "does not answer" in store.stats().degraded_reason
    assert in_time(lambda: get(store, 2)) is Status.MISS
    assert in_time(lambda: put(store, 100)) is Status.DROPPED
    assert in_time(lambda: store.contains([key(3)])) == [False]
    assert store.poll() == []
    disk.work()
    assert statuses_of(store, 1) == [Status.OK]
    until_in_use(store)
    works_as_before(store, PAGES)
    store = reopened(disk, store)
    assert {get(store, i) for i in (200, 201)} == {Status.OK}
    store.close()


def test_reads_that_wait_for_a_disk_that_stands_still_end_by_their_deadline(disk, engine):
    store = filled(disk, engine, read_depth=1, read_timeout_s=0.1, stall_timeout_s=3600)
    disk.stall()
    pages = Pages()
    in_time(lambda: store.submit_get([pages.get(i) for i in range(4)]))
    assert statuses_of(store, 3) == [Status.TIMED_OUT] * 3
    assert in_time(store.stats).timed_out_reads == 3
    disk.work()
    assert statuses_of(store, 1) == [Status.OK]
    works_as_before(store, PAGES)
    store.close()


def test_closing_beside_a_disk_that_stands_still(disk, engine):
    store = filled(disk, engine, close_timeout_s=0.05)
    disk.stall()
    pages = Pages()
    store.submit_get([pages.get(1)])
    with pytest.raises(StoreError, match="does not answer"):
        store.close()
    assert not opens(disk.mounted_at / "l3")
    disk.work()
    # The read may not have begun when the store was closed.
    assert set(statuses_of(store, 1)) <= {Status.OK, Status.CANCELLED}
    wait_for(lambda: opens(disk.mounted_at / "l3"), "the directory to be let go of")
