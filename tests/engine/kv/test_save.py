"""Which pages of L2 go to the disk, and when: the saver over tiers without bytes."""

from __future__ import annotations

from typing import Any, cast

import pytest
from support.fake_tiers import FakeArena, FakeStore

from kvtier_engine.config import L3Write
from kvtier_engine.kv.admit import Admission
from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.kv.host import DiskCopy, HostTier, Link
from kvtier_engine.kv.policy import Lru
from kvtier_engine.kv.save import Saver, SaveRules
from kvtier_store import Status


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


class Tiers:
    """L2 of a few slots, a disk, and a saver between them."""

    def __init__(
        self,
        slots: int = 16,
        write: L3Write = "on_evict",
        arena: FakeArena | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.arena = arena or FakeArena(slots)
        self.store = FakeStore(self.arena)
        self.host = HostTier(cast("Any", self.arena), Lru())
        self.disk = DiskTier(cast("Any", self.store))
        self.now = 0.0
        rules = SaveRules(write, admission)
        self.saver = Saver(self.host, self.disk, rules, lambda: self.now)

    def add(self, number: int, copy: DiskCopy = DiskCopy.NONE) -> None:
        """A page comes to L2, as from L1, or from the disk."""
        slot = self.host.reserve(key(number))
        assert slot is not None
        self.arena.content[slot] = [key(number)]
        self.host.publish(slot, key(number), Link(key(number + 1000), 7), copy)
        self.host.unpin(slot)
        if copy is DiskCopy.NONE:
            self.saver.arrived(key(number))

    def step(self, *numbers: int, disk_answers: bool = True) -> None:
        """A step that brings some pages to L2."""
        for number in numbers:
            self.add(number)
        self.poll()
        while disk_answers and self.store.open:
            self.store.end_one()
            self.poll()

    def poll(self) -> None:
        for saved in self.disk.poll()[1]:
            self.saver.finish(saved)
        self.saver.pump()
        self.host.check()

    def flush(self) -> None:
        self.saver.flush()
        while self.saver.in_flight:
            self.poll()
            self.store.end_one()

    @property
    def offered(self) -> list[int]:
        """Pages that the disk was given to write, in this order."""
        return [int.from_bytes(put.key, "little") for put in self.store.offered]

    @property
    def on_disk(self) -> set[int]:
        return {int.from_bytes(each, "little") for each in self.store.pages}


def test_nothing_is_written_while_l2_has_room():
    tiers = Tiers(16)
    for number in range(8):
        tiers.step(number)
    assert tiers.offered == []
    assert tiers.saver.in_flight == 0, "what is not to be written yet keeps nobody from stopping"


def test_the_pages_next_to_go_are_written_before_they_must():
    tiers = Tiers(16)
    for number in range(100):
        tiers.step(number)
    assert tiers.host.evictions == 84
    assert tiers.host.unsaved == 0
    assert set(range(84)) <= tiers.on_disk
    assert len(tiers.offered) <= 84 + tiers.host.window, "no more than L2 was about to evict"
    assert tiers.offered == sorted(tiers.offered), "the oldest first"


def test_the_window_follows_what_steps_need():
    tiers = Tiers(64)
    for first in range(0, 640, 8):
        tiers.step(*range(first, first + 8))
    assert tiers.host.unsaved == 0
    assert tiers.host.window == 17
    for number in range(1000, 1200):
        tiers.step(number)
    assert tiers.host.window < 8
    tiers.step(*range(2000, 2060))
    assert tiers.host.window == 32, "half of L2 at most"


def test_a_disk_that_takes_a_step_to_write_loses_nothing():
    """What a step hands to it is written when the next step ends, and no sooner."""
    tiers = Tiers(32)
    for first in range(0, 400, 8):
        writing = len(tiers.store.open)
        tiers.step(*range(first, first + 8), disk_answers=False)
        for _ in range(writing):
            tiers.store.end_one()
        tiers.poll()
    assert tiers.host.evictions == 368
    assert tiers.host.unsaved == 0


def test_what_the_disk_has_is_not_written_again():
    tiers = Tiers(8)
    tiers.store.pages[key(1)] = [key(1)]
    tiers.add(1, DiskCopy.PRESENT)
    tiers.store.pages[key(2)] = [key(2)]
    tiers.add(2)  # computed again, although the disk has it
    for number in range(10, 30):
        tiers.step(number)
    assert 1 not in tiers.offered
    assert 2 not in tiers.offered


def test_what_the_disk_has_lost_is_written_again():
    tiers = Tiers(8)
    tiers.add(1, DiskCopy.PRESENT)  # and evicted there since
    for number in range(10, 30):
        tiers.step(number)
    assert 1 in tiers.on_disk


def test_a_page_goes_to_the_disk_with_its_place_in_the_chain():
    tiers = Tiers(8)
    for number in range(12):
        tiers.step(number)
    put = tiers.store.offered[3]
    assert (put.key, put.parent, put.chain_pages) == (key(3), key(1003), 7)


def test_l2_does_not_wait_for_the_disk():
    """It hangs: what it is being given stays, and the next oldest goes, unsaved."""
    tiers = Tiers(16)
    for number in range(16):
        tiers.step(number)
    tiers.step(16, disk_answers=False)  # the first of those to be evicted now is being written
    being_written = {int.from_bytes(put.key, "little") for put in tiers.store.open}
    assert being_written
    before = tiers.host.unsaved
    for number in range(17, 27):
        tiers.step(number, disk_answers=False)
    assert tiers.host.unsaved > before
    for number in being_written:
        assert tiers.host.find(key(number)) is not None
    while tiers.store.open:
        tiers.store.end_one()
    tiers.poll()
    assert being_written <= tiers.on_disk


def test_among_the_next_to_go_one_that_is_ready_goes_first():
    tiers = Tiers(16)
    tiers.host.window = 4
    for number in range(16):
        tiers.add(number)
    page = tiers.host.page(key(2))
    assert page is not None
    page.disk_copy = DiskCopy.PRESENT
    assert tiers.host.reserve(key(90)) is not None
    assert tiers.host.find(key(2)) is None
    assert tiers.host.unsaved == 0
    assert tiers.host.reserve(key(91)) is not None
    assert tiers.host.find(key(0)) is None, "none is ready: the oldest"
    assert tiers.host.unsaved == 1


def test_being_saved_is_no_use():
    tiers = Tiers(16)
    for number in range(16):
        tiers.step(number)
    tiers.step(16, disk_answers=False)
    assert tiers.store.open
    order = [int.from_bytes(each, "little") for each in tiers.host.oldest(16)]
    assert order == list(range(1, 17))


def test_a_page_that_is_in_use_is_not_written_ahead_of_others():
    tiers = Tiers(8)
    tiers.step(0, 1, 2)
    slot = tiers.host.find(key(1))
    assert slot is not None
    tiers.host.pin(slot)
    for number in range(3, 15):
        tiers.step(number)
    assert tiers.host.find(key(1)) is not None
    assert 1 not in tiers.offered


@pytest.mark.parametrize("write", ["on_evict", "write_through"])
def test_what_the_disk_refuses_is_offered_again_later(write):
    tiers = Tiers(8, write)
    for number in range(8):
        tiers.step(number, disk_answers=False)
    tiers.step(8, disk_answers=False)
    refused = len(tiers.store.open)
    assert refused
    first = tiers.store.open[0].key
    while tiers.store.open:
        tiers.store.end_one(Status.DROPPED)
    tiers.poll()
    assert tiers.saver.refused == refused
    tiers.poll()
    assert not tiers.store.open, "not at once"
    assert tiers.saver.in_flight == 0
    tiers.now += 6
    tiers.step()
    assert first in tiers.store.pages


def test_write_through_writes_what_comes():
    tiers = Tiers(16, "write_through")
    tiers.step(0, 1, 2)
    assert tiers.offered == [0, 1, 2]
    tiers.add(3, DiskCopy.PRESENT)
    tiers.step()
    assert tiers.offered == [0, 1, 2]


def test_at_the_end_all_that_l2_alone_holds_is_written_the_most_recent_first():
    tiers = Tiers(16)
    for number in range(10):
        tiers.add(number)
    tiers.host.touch([key(3), key(4), key(5)])  # a chain, head first
    tiers.store.pages[key(7)] = [key(7)]
    tiers.flush()
    assert tiers.offered == [3, 4, 5, 9, 8, 6, 2, 1, 0]
    assert tiers.on_disk == set(range(10))


def test_pages_that_come_while_the_engine_stops_are_written_as_well():
    tiers = Tiers(16)
    tiers.saver.flush()
    tiers.add(1)
    assert tiers.saver.in_flight == 1
    tiers.step()
    assert tiers.on_disk == {1}


@pytest.mark.parametrize("write", ["on_evict", "write_through"])
def test_pages_of_the_engine_before_are_offered_with_their_parents(write):
    before = Tiers(16)
    for number in range(6):
        before.add(number)
    before.arena.bad.add(before.host.find(key(4)))
    tiers = Tiers(16, write, before.arena)
    assert tiers.host.adopted == 6
    tiers.step() if write == "write_through" else tiers.flush()
    assert tiers.on_disk == {0, 1, 2, 3, 5}, "all but the one whose bytes are bad"
    assert {put.parent for put in tiers.store.offered} == {key(1000 + n) for n in tiers.on_disk}
    assert tiers.host.corrupt == 1


class Nothing(Admission):
    """Wants nothing but what was used."""

    def __init__(self) -> None:
        super().__init__(100, 1)

    def admits(self, key: bytes, was_used: bool, now: float) -> bool:
        return was_used


@pytest.mark.parametrize("write", ["on_evict", "write_through"])
def test_what_is_not_admitted_is_offered_again_when_it_is_used(write):
    tiers = Tiers(8, write, admission=Nothing())
    for number in range(8):
        tiers.step(number)
    tiers.step(8)
    assert tiers.offered == []
    assert tiers.saver.not_admitted > 0
    used = [key(number) for number in range(1, 9) if tiers.host.find(key(number))]
    tiers.saver.used(used, len(used), set(), 3)
    tiers.step()
    for number in range(20, 28):
        tiers.step(number)
    assert set(used) == set(tiers.store.pages)
    assert tiers.host.unsaved == 0, "what is not wanted is no loss"
    assert {put.chain_pages for put in tiers.store.offered} == {3}


def test_at_the_end_the_admission_rule_is_asked_as_if_all_had_been_used():
    tiers = Tiers(8, admission=Nothing())
    for number in range(4):
        tiers.step(number)
    tiers.flush()
    assert tiers.on_disk == {0, 1, 2, 3}


def test_a_smaller_l2_has_more_writes_under_way_than_it_may():
    tiers = Tiers(16, "write_through")
    tiers.step(*range(6), disk_answers=False)
    assert len(tiers.store.open) == 4
    tiers.host.resize(4)
    tiers.poll()
    assert len(tiers.store.open) == 4
    for _ in range(6):
        tiers.store.end_one()
        tiers.poll()
    assert len(tiers.store.pages) == 6
