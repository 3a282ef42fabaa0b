"""Pages and journals damaged from outside: a miss counted by its cause, never wrong bytes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.store_client import PAGE_BYTES, SLOT_BYTES, get, key, open_store, put, put_all
from support.store_files import Slot, find_slots

from kvtier_store import Status, crc32c

PAGES = 8


@pytest.fixture
def folder(tmp_path):
    store = open_store(tmp_path / "l3")
    put_all(store, range(PAGES))
    store.close()
    return tmp_path / "l3"


def slot_of(folder: Path, i: int) -> Slot:
    return find_slots(folder, PAGE_BYTES)[key(i)]


def expect(folder: Path, broken: set[int], causes: dict[str, int]) -> None:
    """`broken` pages are CORRUPT once and a MISS from then on, all others are right."""
    store = open_store(folder)
    for i in range(PAGES):
        assert get(store, i) is (Status.CORRUPT if i in broken else Status.OK), i
        assert get(store, i) is (Status.MISS if i in broken else Status.OK), i
    assert store.stats().corrupt == causes
    for i in broken:
        assert put(store, i) is Status.OK
        assert get(store, i) is Status.OK
    store.close()


def test_zeroed(folder):
    slot_of(folder, 3).write(bytes(SLOT_BYTES))
    expect(folder, {3}, {"header": 1})


@pytest.mark.parametrize(
    ("at", "cause"),
    [(0, "header"), (8, "version"), (72, "header"), (120, "header"), (4096, "checksum")],
)
def test_one_bit_flipped(folder, at, cause):
    slot = slot_of(folder, 2)
    slot.write(bytes([slot.read()[at] ^ 1]), at)
    expect(folder, {2}, {cause: 1})


def test_payload_zeroed_under_a_good_header(folder):
    slot_of(folder, 5).write(bytes(PAGE_BYTES), 4096)
    expect(folder, {5}, {"checksum": 1})


def test_two_slots_swapped(folder):
    one, other = slot_of(folder, 1), slot_of(folder, 6)
    first, second = one.read(), other.read()
    one.write(second)
    other.write(first)
    expect(folder, {1, 6}, {"key": 2})


def test_payloads_swapped_between_headers(folder):
    one, other = slot_of(folder, 1), slot_of(folder, 6)
    first, second = one.read(), other.read()
    one.write(second[4096:], 4096)
    other.write(first[4096:], 4096)
    expect(folder, {1, 6}, {"checksum": 2})


def test_an_older_write_of_the_same_page(folder):
    before = slot_of(folder, 4).read()
    store = open_store(folder)
    store.evict([key(4)])
    put(store, 4)
    store.close()
    slot_of(folder, 4).write(before)
    expect(folder, {4}, {"sequence": 1})


def test_a_slot_of_another_store(folder, tmp_path):
    other = open_store(tmp_path / "other")
    put_all(other, range(PAGES))
    other.close()
    slot_of(folder, 0).write(slot_of(tmp_path / "other", 0).read())
    expect(folder, {0}, {"foreign": 1})


def seal(header: bytearray) -> bytes:
    """With the checksum of what it says now."""
    header[12:16] = crc32c(memoryview(header)[16:128]).to_bytes(4, "little")
    return bytes(header)


@pytest.mark.parametrize(
    ("at", "cause"),
    [
        (32, "namespace"),
        (16, "foreign"),
        (72, "key"),
        (104, "sequence"),
        (112, "length"),
        (120, "checksum"),
    ],
)
def test_a_whole_header_that_says_something_else(folder, at, cause):
    """As a program's bug or a forger would leave it: the header's own checksum is right."""
    slot = slot_of(folder, 3)
    header = bytearray(slot.read()[:4096])
    header[at] ^= 1
    slot.write(seal(header))
    expect(folder, {3}, {cause: 1})


def test_a_segment_truncated_under_a_running_store(folder):
    store = open_store(folder)
    slot = slot_of(folder, PAGES - 1)
    os.truncate(slot.file, slot.offset + SLOT_BYTES - 1)
    assert get(store, PAGES - 1) is Status.CORRUPT
    assert store.stats().corrupt == {"short": 1}
    assert all(get(store, i) is Status.OK for i in range(PAGES - 1))
    store.close()


def test_a_segment_truncated_while_closed_loses_what_was_cut(folder):
    slot = slot_of(folder, 4)
    os.truncate(slot.file, slot.offset + 100)
    store = open_store(folder)
    held = [get(store, i) for i in range(PAGES)]
    assert held == [Status.OK] * 4 + [Status.MISS] * 4
    put_all(store, range(4, PAGES))
    store.close()
    expect(folder, set(), {})


def test_a_segment_lost(folder):
    (folder / "segment-00000").unlink()
    store = open_store(folder)
    assert {get(store, i) for i in range(PAGES)} == {Status.MISS}
    put_all(store, range(PAGES))
    store.close()
    expect(folder, set(), {})


@pytest.mark.parametrize("content", [None, b"", b"noise" * 1000], ids=["lost", "empty", "noise"])
def test_a_journal_that_says_nothing_forgets_the_pages(folder, content):
    (folder / "journal").unlink()
    if content is not None:
        (folder / "journal").write_bytes(content)
    store = open_store(folder)
    assert {get(store, i) for i in range(PAGES)} == {Status.MISS}
    put_all(store, range(PAGES))
    store.close()
    expect(folder, set(), {})


def test_a_stale_journal_over_reused_slots(folder, tmp_path):
    shutil.copy(folder / "journal", tmp_path / "stale")
    store = open_store(folder)
    store.evict([key(i) for i in range(PAGES)])
    put_all(store, range(100, 100 + PAGES))
    store.close()
    shutil.copy(tmp_path / "stale", folder / "journal")
    store = open_store(folder)
    assert {get(store, i) for i in range(PAGES)} == {Status.CORRUPT}
    assert store.stats().corrupt == {"key": PAGES}
    store.close()
