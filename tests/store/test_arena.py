"""The arena through its Python interface."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from support.engine_process import wait_for

from kvtier_store import Arena, ArenaError, Backing

SLOTS, PARTS, PART_BYTES = 6, 2, 5000


@pytest.fixture
def fd():
    fd = os.memfd_create("kvtier-test")
    yield fd
    os.close(fd)


def open_arena(fd: int, **changes: object) -> Arena:
    fields = {"slots": SLOTS, "parts": PARTS, "part_bytes": PART_BYTES, "namespace": b"n"}
    return Arena.open(fd, **(fields | changes))


def key(i: int) -> bytes:
    return bytes([i]) * 16


def test_geometry(fd):
    arena = open_arena(fd, backing=Backing.PLAIN)
    assert (arena.slots, arena.parts, arena.part_bytes) == (SLOTS, PARTS, PART_BYTES)
    assert arena.part_stride == 8192
    needed = Arena.required_bytes(SLOTS, PARTS, PART_BYTES, Backing.PLAIN)
    assert arena.mapped_bytes == needed == os.fstat(fd).st_size
    for slot in range(SLOTS):
        expected = [
            (arena.part_address(part) + slot * arena.part_stride, PART_BYTES)
            for part in range(PARTS)
        ]
        assert arena.pieces(slot) == expected
    assert arena.backing is Backing.PLAIN
    arena.close()


def test_parts_are_writable_views_of_the_same_memory(fd):
    arena = open_arena(fd)
    view = arena.part_view(1)
    assert (view.nbytes, view.readonly, view.format) == (SLOTS * arena.part_stride, False, "B")
    view[arena.part_stride] = 77
    other = Arena.attach(fd)
    assert other.adopted
    assert other.part_view(1)[other.part_stride] == 77


def test_a_view_outlives_its_arena(fd):
    arena = open_arena(fd)
    view = arena.part_view(0)
    arena.close()
    del arena
    gc.collect()
    view[0] = 1
    assert view[0] == 1


def test_a_successor_finds_what_was_published(fd):
    arena = open_arena(fd)
    assert not arena.adopted
    for slot in (3, 1, 5):
        arena.part_view(0)[slot * arena.part_stride] = slot
        arena.publish(slot, key(slot), key(100 + slot))
    arena.retract(1)
    arena.close()
    arena = open_arena(fd)
    assert arena.adopted
    entries = [(e.slot, e.key, e.parent) for e in arena.entries()]
    assert entries == [(3, key(3), key(103)), (5, key(5), key(105))]
    assert arena.verify(3)
    arena.part_view(0)[3 * arena.part_stride] = 9
    assert not arena.verify(3)
    assert not arena.verify(1)


def test_another_namespace_finds_nothing(fd):
    arena = open_arena(fd)
    arena.publish(0, key(0))
    assert arena.entries()[0].parent == bytes(16)
    arena = open_arena(fd, namespace=b"other")
    assert not arena.adopted
    assert arena.entries() == []


def test_prefault_populates_the_memory(fd):
    arena = open_arena(fd, slots=500)
    arena.prefault(threads=2)
    wait_for(lambda: arena.populated_bytes == arena.mapped_bytes, "the arena to be populated")
    assert arena.prefault_error is None
    assert os.fstat(fd).st_blocks * 512 == arena.mapped_bytes
    arena.close()


def test_closing_stops_a_prefault(fd):
    arena = open_arena(fd, slots=50_000)
    arena.prefault()
    arena.close()
    assert arena.populated_bytes == 0


def test_a_numa_node_that_is_not_there_is_said_not_fatal(fd):
    arena = open_arena(fd, numa_nodes=[0, 900])
    assert arena.numa_error is not None
    assert "part 1 to NUMA node 900" in arena.numa_error


def test_huge_pages_that_the_host_does_not_have_are_a_sentence():
    try:
        fd = os.memfd_create("kvtier-test", os.MFD_HUGETLB)
    except OSError as error:
        pytest.skip(f"no huge pages in this kernel: {error}")
    try:
        with pytest.raises(ArenaError, match=r"free huge pages of 2 MiB: raise vm.nr_hugepages"):
            open_arena(fd, slots=10_000_000, backing=Backing.HUGE_2M)
    finally:
        os.close(fd)


def test_mistakes_are_sentences(fd):
    arena = open_arena(fd)
    with pytest.raises(ArenaError, match="slot 6 is not one of the arena's 6"):
        arena.publish(6, key(1))
    with pytest.raises(ArenaError, match="part 2 is not one of the arena's 2"):
        arena.part_view(2)
    with pytest.raises(ValueError, match="a key has 16 bytes, not 2"):
        arena.publish(0, b"ab")
    with pytest.raises(ArenaError, match="1 to 32 bytes, not 0"):
        open_arena(fd, namespace=b"")
    arena.close()
    arena.close()
    with pytest.raises(ArenaError, match="the arena is closed"):
        arena.entries()


def huge_bytes(address: int) -> int:
    """Of the mapping at `address`, in huge pages."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        begin, dash, end = line.split(" ", 1)[0].partition("-")
        if not dash or not int(begin, 16) <= address < int(end, 16):
            continue
        for field in lines:
            if field.startswith("ShmemPmdMapped:"):
                return int(field.split()[1]) << 10
    raise AssertionError("no such mapping")


@pytest.mark.parametrize("backing", [Backing.TRANSPARENT, Backing.PLAIN], ids=lambda b: b.name)
def test_the_backing_is_what_the_memory_is(fd, backing):
    """Also where the host gives shared memory no huge pages by itself (shmem_enabled: never)."""
    arena = open_arena(fd, slots=64, part_bytes=1 << 18, backing=backing)
    arena.prefault(1)
    wait_for(lambda: arena.populated_bytes == arena.mapped_bytes, "the arena to be populated")
    assert arena.prefault_error is None
    mapped = huge_bytes(arena.part_address(0))
    assert (mapped > 0) is (arena.backing is Backing.TRANSPARENT)
    if arena.backing is Backing.TRANSPARENT:
        assert mapped == arena.mapped_bytes
    arena.close()
