"""Scrubbing a store that is open, and what its directory remembers of its life."""

from __future__ import annotations

import pytest
from support.store_client import PAGE_BYTES, SLOT_BYTES, get, key, open_store, put, put_all
from support.store_files import find_slots

from kvtier_store import Status, inspect

PAGES = 6


def flip(folder, i):
    slot = find_slots(folder, PAGE_BYTES)[key(i)]
    slot.write(bytes([slot.read()[4096] ^ 1]), 4096)


def test_a_scrub_finds_what_is_bad_and_counts_no_hits(tmp_path):
    store = open_store(tmp_path / "l3")
    put_all(store, range(PAGES))
    flip(tmp_path / "l3", 3)
    seen = []
    report = store.verify(lambda so_far: seen.append(so_far.pages))
    assert seen == list(range(1, PAGES + 1))
    assert (report.pages, report.bytes) == (PAGES, PAGES * PAGE_BYTES)
    assert report.bad == {"checksum": 1} == store.stats().corrupt
    assert not report.stopped
    assert store.stats().hits == 0
    assert get(store, 3) is Status.MISS
    assert get(store, 2) is Status.OK
    store.close()


def test_a_scrub_leaves_the_order_of_use_alone(tmp_path):
    store = open_store(tmp_path / "l3", pages=3)
    put_all(store, range(3))
    store.touch([key(0)])
    store.verify()
    put_all(store, [3])
    assert store.contains([key(0), key(1), key(2)]) == [True, False, True]
    store.close()


def test_a_scrub_ends_when_told_or_when_the_store_closes(tmp_path):
    store = open_store(tmp_path / "a", tmp_path / "b")
    put_all(store, range(PAGES))
    stopped = store.verify(lambda so_far: so_far.pages < 2)
    assert stopped.stopped
    assert stopped.pages == 2

    def fail(so_far):
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        store.verify(fail)
    closed = store.verify(lambda so_far: store.close())
    assert closed.stopped
    assert closed.pages == 1


def test_wear_survives_a_restart(tmp_path):
    for _ in range(3):
        store = open_store(tmp_path / "l3")
        put(store, 0)
        assert get(store, 0) is Status.OK
        store.evict([key(0)])
        store.close()
    store = open_store(tmp_path / "l3")
    stats = store.stats()
    assert stats.written_bytes == 0
    assert stats.lifetime_written_bytes == 3 * PAGE_BYTES
    assert stats.lifetime_hit_bytes == 3 * PAGE_BYTES
    assert stats.lifetime_disk_written_bytes > 3 * SLOT_BYTES
    assert stats.disk_written_bytes_last_day == stats.lifetime_disk_written_bytes
    store.close()
    marks = inspect(str(tmp_path / "l3")).marks
    assert [mark.sequence for mark in marks] == sorted(mark.sequence for mark in marks)


def test_every_byte_is_counted(tmp_path):
    store = open_store(tmp_path / "l3")
    before = store.stats()
    put(store, 0)
    store.flush()
    after = store.stats()
    assert after.disk_written_bytes - before.disk_written_bytes == SLOT_BYTES + 64
    assert get(store, 0) is Status.OK
    assert store.stats().disk_read_bytes - after.disk_read_bytes == SLOT_BYTES
    store.close()
