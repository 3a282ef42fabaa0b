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


def memory_bytes(fd: int) -> int:
    """What the system has behind the file."""
    return os.fstat(fd).st_blocks * 512


def is_populated(arena: Arena) -> bool:
    return arena.populated_bytes == arena.target_bytes


def fill(arena: Arena, slot: int) -> None:
    for part in range(arena.parts):
        at = slot * arena.part_stride
        arena.part_view(part)[at : at + arena.part_bytes] = bytes([slot + 1]) * arena.part_bytes


def is_filled(arena: Arena, slot: int, value: int | None = None) -> bool:
    expected = bytes([slot + 1 if value is None else value]) * arena.part_bytes
    at = slot * arena.part_stride
    views = [arena.part_view(part) for part in range(arena.parts)]
    return all(view[at : at + arena.part_bytes] == expected for view in views)


def test_slots_are_populated_and_released_as_they_are_asked_for(fd):
    arena = open_arena(fd, slots=64, part_bytes=1 << 16, backing=Backing.PLAIN)
    table = arena.mapped_bytes - PARTS * 64 * arena.part_stride
    sizes = {slots: table + PARTS * slots * arena.part_stride for slots in (10, 20, 30, 64)}
    assert arena.target_bytes == arena.populated_bytes == 0
    for slots, expected in ((10, 10), (30, 30), (20, 30)):
        arena.prefault(slots=slots)
        wait_for(lambda: is_populated(arena), "the slots to be populated")
        assert arena.target_bytes == memory_bytes(fd) == sizes[expected]
    for slot in range(64):
        fill(arena, slot)
    arena.release(20)
    assert arena.populated_bytes == arena.target_bytes == memory_bytes(fd) == sizes[20]
    assert all(is_filled(arena, slot) for slot in range(20))
    arena.prefault(slots=64)
    wait_for(lambda: is_populated(arena), "the memory to be back")
    assert arena.populated_bytes == memory_bytes(fd) == sizes[64] == arena.mapped_bytes
    assert all(is_filled(arena, slot, 0) for slot in range(20, 64))
    assert all(is_filled(arena, slot) for slot in range(20))
    arena.close()


def test_a_large_page_that_a_slot_in_use_shares_stays(fd):
    """Slots of 512 KiB: slot 4 lies in the second 2 MiB of each part, with slots 5, 6 and 7."""
    arena = open_arena(fd, slots=16, part_bytes=1 << 19, backing=Backing.TRANSPARENT)
    if arena.backing is not Backing.TRANSPARENT:
        pytest.skip("this kernel has no transparent huge pages for shared memory")
    arena.prefault()
    wait_for(lambda: is_populated(arena), "the arena to be populated")
    for slot in range(16):
        fill(arena, slot)
    arena.release(5)
    table = arena.mapped_bytes - PARTS * 16 * arena.part_stride
    assert arena.populated_bytes == memory_bytes(fd) == table + PARTS * (4 << 20)
    assert all(is_filled(arena, slot) for slot in range(8))
    assert all(is_filled(arena, slot, 0) for slot in range(8, 16))
    arena.close()


def test_memory_of_a_published_slot_is_not_released(fd):
    arena = open_arena(fd, backing=Backing.PLAIN)
    fill(arena, 4)
    arena.publish(4, key(4))
    with pytest.raises(ArenaError, match="slot 4 is published: retract it"):
        arena.release(2)
    assert arena.verify(4)
    arena.release(5)
    assert arena.verify(4)
    arena.retract(4)
    arena.release(2)
    assert is_filled(arena, 4, 0)
    arena.close()


def test_a_release_limits_the_prefault_under_way(fd):
    arena = open_arena(fd, slots=4096, part_bytes=1 << 17, backing=Backing.PLAIN)  # 1 GiB
    arena.prefault(threads=2)
    arena.release(512)
    assert arena.target_bytes < arena.mapped_bytes // 7
    wait_for(lambda: is_populated(arena), "the rest to be populated")
    assert memory_bytes(fd) == arena.target_bytes
    arena.close()


def test_a_release_waits_for_what_is_just_being_populated(fd):
    arena = open_arena(fd, slots=4096, part_bytes=1 << 17, backing=Backing.PLAIN)
    arena.prefault(threads=2)
    wait_for(lambda: arena.populated_bytes, "the first chunks")
    arena.release(1)
    table = arena.mapped_bytes - PARTS * 4096 * arena.part_stride
    assert arena.target_bytes == table + PARTS * arena.part_stride
    wait_for(lambda: is_populated(arena), "the slot to be populated")
    assert memory_bytes(fd) == arena.target_bytes
    arena.close()


@pytest.fixture
def reserved():
    """Huge pages of 2 MiB that a test may use up; they go back afterwards."""
    file = Path("/proc/sys/vm/nr_hugepages")
    try:
        before = int(file.read_text())
        file.write_text(str(before + 24))
    except OSError as error:
        pytest.skip(f"huge pages cannot be reserved here: {error}")
    try:
        if int(file.read_text()) < before + 24:
            pytest.skip("this machine's memory is too scattered for 24 huge pages")
        yield
    finally:
        file.write_text(str(before))


def free_huge_pages() -> int:
    return int(Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read_text())


def test_explicit_huge_pages_go_back_to_the_pool(reserved):
    before = free_huge_pages()
    fd = os.memfd_create("kvtier-test", os.MFD_HUGETLB | os.MFD_HUGE_2MB)
    try:
        arena = open_arena(fd, slots=16, part_bytes=1 << 20, backing=Backing.HUGE_2M)
        arena.prefault()
        wait_for(lambda: is_populated(arena), "the arena to be populated")
        assert before - free_huge_pages() == 1 + PARTS * 8
        for slot in range(16):
            fill(arena, slot)
        arena.release(3)  # slot 2 shares its page with slot 3
        assert before - free_huge_pages() == 1 + PARTS * 2
        assert all(is_filled(arena, slot) for slot in range(4))
        assert arena.populated_bytes == (1 + PARTS * 2) << 21
        arena.prefault(slots=16)
        wait_for(lambda: is_populated(arena), "the huge pages to be back")
        assert before - free_huge_pages() == 1 + PARTS * 8
        assert is_filled(arena, 5, 0)
        arena.close()
    finally:
        os.close(fd)
    assert free_huge_pages() == before


def test_parts_are_bound_to_their_node(fd):
    arena = open_arena(fd, slots=64, part_bytes=1 << 16, numa_nodes=[0, 0])
    assert arena.numa_error is None
    maps = [line.split() for line in Path("/proc/self/numa_maps").read_text().splitlines()]
    policies = {int(words[0], 16): words[1] for words in maps}
    begins = sorted(policies)
    for part in range(PARTS):
        address = arena.part_address(part)
        assert policies[max(begin for begin in begins if begin <= address)] == "bind:0"
    arena.close()


def test_a_numa_node_that_is_not_there_is_said_not_fatal(fd):
    arena = open_arena(fd, numa_nodes=[0, 900])
    assert arena.numa_error is not None
    assert "part 1 to NUMA node 900" in arena.numa_error
    arena.prefault()
    wait_for(lambda: arena.populated_bytes == arena.mapped_bytes, "the arena to be populated")
    fill(arena, 5)
    arena.publish(5, key(5))
    assert arena.verify(5)


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
    with pytest.raises(ArenaError, match="the arena has 6 slots, not 7"):
        arena.prefault(slots=7)
    with pytest.raises(ArenaError, match="the arena has 6 slots, not 7"):
        arena.release(7)
    arena.close()
    arena.close()
    with pytest.raises(ArenaError, match="the arena is closed"):
        arena.entries()
    with pytest.raises(ArenaError, match="the arena is closed"):
        arena.release(0)
    with pytest.raises(ArenaError, match="the arena is closed"):
        arena.prefault()


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
