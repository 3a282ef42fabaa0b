"""What a file system may not have, and what the store does without it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from store.injected.stores import PAGES, filled, threads
from support.disk_faults import Faults
from support.page_cache import cached_bytes
from support.store_client import SLOT_BYTES, capacity, get, put, put_all

from kvtier_store import IoEngine, Status, Store

DIRECT_IO = {"open_direct": "everywhere", "probe": "others"}  # refused at opening, or at transfers


def without_direct_io(folder: Path, faults: Faults, kind: str) -> Store:
    filled(folder).close()
    with faults.failing(kind, errno.EINVAL, where=DIRECT_IO[kind]):
        store = threads(folder)
    # The segments are open, those to come are in a file that is.
    assert [directory.direct_io for directory in store.stats().directories] == [False]
    return store


@pytest.mark.parametrize("kind", DIRECT_IO)
def test_without_direct_io_no_page_stays_in_the_page_cache(
    folder: Path, faults: Faults, kind: str
) -> None:
    store = without_direct_io(folder, faults, kind)
    segment = folder / "segment-00000"
    assert cached_bytes(segment) == 0
    for i in PAGES:
        assert get(store, i) is Status.OK
        assert cached_bytes(segment) == 0
    for i in range(100, 108):
        assert put(store, i) is Status.OK
        assert cached_bytes(segment) == 0
    assert segment.read_bytes()
    assert cached_bytes(segment) > 0, "the measure shows nothing"
    store.close()


def test_without_direct_io_both_engines_do(folder: Path, faults: Faults) -> None:
    filled(folder).close()
    with faults.failing("open_direct", errno.EINVAL, where="everywhere"):
        store = threads(folder, io_engine=IoEngine.AUTO)
        assert put(store, 100) is Status.OK
        assert [get(store, i) for i in (*PAGES, 100)] == [Status.OK] * 9
        store.close()
    store = threads(folder)
    assert store.stats().directories[0].direct_io
    assert [get(store, i) for i in (*PAGES, 100)] == [Status.OK] * 9
    store.close()


def bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_smaller_capacity_where_no_holes_can_be_punched_keeps_the_first_slots(
    folder: Path, faults: Faults, error: int
) -> None:
    filled(folder).close()
    with faults.failing("punch", error):
        store = threads(folder, pages=3)
    statuses = [get(store, i) for i in PAGES]
    assert statuses == [Status.OK] * 3 + [Status.MISS] * 5
    assert (folder / "segment-00000").stat().st_size == 3 * SLOT_BYTES
    assert bytes_on_disk(folder) <= capacity(3)
    put_all(store, range(100, 105))
    assert [get(store, i) for i in range(102, 105)] == [Status.OK] * 3
    assert store.verify().bad == {}
    store.close()


def test_where_holes_can_be_punched_the_pages_used_last_stay(folder: Path, faults: Faults) -> None:
    """What the case above compares with."""
    filled(folder).close()
    store = threads(folder, pages=3)
    assert [get(store, i) for i in PAGES] == [Status.MISS] * 5 + [Status.OK] * 3
    assert bytes_on_disk(folder) <= capacity(3)
    store.close()
