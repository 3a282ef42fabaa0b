"""L2's slots against a dictionary: which page may go, and which may not."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.fake_tiers import FakeArena

from kvtier_engine.kv.host import HostTier
from kvtier_engine.kv.policy import Lru

SLOTS = 5
numbers = st.integers(0, 8)


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def filled(*pages: int) -> HostTier:
    host = HostTier(FakeArena(SLOTS), Lru())  # type: ignore[arg-type]
    for number in pages:
        slot = host.reserve(key(number))
        assert slot is not None
        host.publish(slot, key(number))
        host.unpin(slot)
    return host


def test_a_page_that_is_kept_is_passed_over_until_it_is_let_go():
    host = filled(1, 2, 3, 4, 5)
    host.keep(key(1))
    host.keep(key(6))
    for number in (6, 7, 8):
        slot = host.reserve(key(number))
        assert slot is not None
        host.publish(slot, key(number))
        host.unpin(slot)
    there = [number for number in range(1, 9) if host.find(key(number)) is not None]
    assert there == [1, 5, 6, 7, 8]
    host.let_go(key(1))
    for number in range(10, 14):
        assert host.reserve(key(number)) is not None
    assert host.find(key(1)) is None
    assert host.find(key(6)) is not None, "kept before it came"
    assert host.reserve(key(14)) is None


class Slots(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.host = filled()
        self.pages: dict[bytes, int] = {}
        self.pins: list[int] = []
        self.kept: set[bytes] = set()

    def is_free(self, page: bytes) -> bool:
        return self.pages[page] not in self.pins

    @rule(number=numbers)
    def fill(self, number):
        if key(number) in self.pages:
            return
        before = set(self.pages)
        may_go = {page for page in before - self.kept if self.is_free(page)}
        size = self.host.slots
        # A page above a smaller size leaves its place below free.
        is_full = sum(place < size for place in self.pages.values()) == size
        slot = self.host.reserve(key(number))
        assert (slot is None) == (len(before) > size or (is_full and not may_go))
        if slot is None:
            return
        assert slot < size
        gone = {page for page in before if self.host.find(page) is None}
        assert gone <= may_go
        assert len(gone) == is_full
        for page in gone:
            del self.pages[page]
        self.host.publish(slot, key(number))
        self.host.unpin(slot)
        self.pages[key(number)] = slot

    @precondition(lambda self: self.pages)
    @rule(data=st.data())
    def pin(self, data):
        slot = data.draw(st.sampled_from(sorted(self.pages.values())))
        self.host.pin(slot)
        self.pins.append(slot)

    @precondition(lambda self: self.pins)
    @rule()
    def unpin(self):
        self.host.unpin(self.pins.pop(0))

    @rule(number=numbers)
    def keep(self, number):
        self.host.keep(key(number))
        self.kept.add(key(number))

    @rule(number=numbers)
    def let_go(self, number):
        self.host.let_go(key(number))
        self.kept.discard(key(number))

    @rule(number=numbers)
    def drop(self, number):
        if key(number) in self.pages and self.is_free(key(number)):
            self.host.drop(key(number))
            del self.pages[key(number)]

    @rule()
    def clear(self):
        free = {page for page in self.pages if self.is_free(page)}
        assert set(self.host.clear()) == free
        for page in free:
            del self.pages[page]

    @rule(slots=st.integers(0, SLOTS))
    def resize(self, slots):
        self.host.resize(slots)

    @rule(pages_max=st.integers(1, 3))
    def shrink(self, pages_max):
        before, over, outside = set(self.pages), self.host.over, self.host.outside
        self.host.shrink(pages_max, unsaved=True)
        gone = {page for page in before if self.host.page(page) is None}
        assert gone <= {page for page in before - self.kept if self.is_free(page)}
        assert len(gone) <= min(over, pages_max)
        assert self.host.outside <= outside
        for page in before:
            if page in gone:
                del self.pages[page]
                continue
            slot = self.host.page(page).slot
            assert slot == self.pages[page] or (self.is_free(page) and slot < self.host.slots)
            self.pages[page] = slot

    @invariant()
    def agrees(self):
        self.host.check()
        for number in range(9):
            assert self.host.find(key(number)) == self.pages.get(key(number))


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
