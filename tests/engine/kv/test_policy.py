"""Eviction policies against plain lists, and what each of them keeps."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvtier_engine.kv.arc import Arc
from kvtier_engine.kv.policy import EvictionPolicy, Lru, make_policy

CAPACITY = 5
KEYS = [bytes([number]) * 16 for number in range(14)]  # so that ghosts are forgotten as well


def anything(_: bytes) -> bool:
    return True


def use(policy: EvictionPolicy, key: bytes, capacity: int) -> None:
    """A cache of so many pages is asked for one."""
    if key in policy:
        policy.touch(key)
        return
    policy.expect(key)
    if len(policy) == capacity:
        policy.evict(policy.oldest(1, anything)[0])
    policy.insert(key)


def use_all(policy: EvictionPolicy, numbers: list[int], capacity: int) -> None:
    for number in numbers:
        use(policy, KEYS[number], capacity)


def order(policy: EvictionPolicy) -> list[int]:
    return [key[0] for key in policy.oldest(len(policy), anything)]


def test_lru_keeps_the_most_recent():
    lru = Lru()
    use_all(lru, [0, 1, 2, 0, 3], 3)
    assert order(lru) == [2, 0, 3]


def test_arc_is_not_flushed_by_what_is_used_once():
    arc = Arc(4)
    use_all(arc, [0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8], 4)
    assert KEYS[0] in arc
    assert KEYS[1] in arc


def test_arc_gives_room_to_new_pages_when_those_that_left_come_back():
    arc = Arc(4)
    use_all(arc, [0, 1, 2, 0, 1, 2, 3, 4], 4)
    assert KEYS[3] not in arc, "one place is left for what is new"
    use_all(arc, [3, 5, 6], 4)  # 3 had just left
    assert KEYS[5] in arc, "now there are two"


def test_putting_a_chain_in_order_is_no_second_use():
    arc = Arc(4)
    use_all(arc, [0, 0, 1, 2], 4)
    arc.reorder(KEYS[1])
    use_all(arc, [3, 4], 4)
    assert KEYS[0] in arc, "the page used twice outlives those used once"
    assert KEYS[1] in arc
    assert KEYS[2] not in arc, "it was the oldest after the reordering"


def test_a_page_that_was_expected_comes_back_as_one_used_again():
    arc = Arc(4)
    use_all(arc, [0, 0, 1, 2, 3, 4], 4)  # 1 is a ghost
    arc.expect(KEYS[1])
    arc.expect(KEYS[1])
    use_all(arc, [1, 5, 6, 7], 4)
    assert KEYS[1] in arc


def test_ghosts_that_are_expected_and_never_come_are_forgotten():
    arc = Arc(2)
    for numbers in ([0, 1, 0, 1], [2, 3]):
        use_all(arc, numbers, 2)
        for key in arc.oldest(2, anything):
            arc.evict(key)
    for key in KEYS[:4]:
        arc.expect(key)
    arc.check()


@pytest.mark.parametrize("name", ["lru", "arc"])
def test_what_is_in_use_is_passed_over_and_counts_as_recent(name):
    policy = make_policy(name, 4)
    use_all(policy, [0, 1, 2, 3], 4)
    assert policy.oldest(2, lambda key: key[0] not in (0, 2)) == [KEYS[1], KEYS[3]]
    assert order(policy) == [1, 3, 0, 2]


@pytest.mark.parametrize("name", ["lru", "arc"])
def test_nothing_goes_when_all_is_in_use(name):
    policy = make_policy(name, 4)
    use_all(policy, [0, 1], 4)
    assert policy.oldest(3, lambda key: False) == []
    assert len(policy) == 2


class PlainLru:
    """Least recently used first, as a list."""

    def __init__(self) -> None:
        self.pages: list[bytes] = []

    def touch(self, key: bytes) -> None:
        self.pages.remove(key)
        self.pages.append(key)

    reorder = touch

    def insert(self, key: bytes) -> None:
        self.pages.append(key)

    def discard(self, key: bytes) -> None:
        self.pages.remove(key)

    def make_room(self, pinned: set[bytes]) -> bytes | None:
        while self.pages and not pinned.issuperset(self.pages) and self.pages[0] in pinned:
            self.touch(self.pages[0])
        if not self.pages or self.pages[0] in pinned:
            return None
        return self.pages.pop(0)

    def expect(self, key: bytes) -> None:
        pass


class PlainArc:
    """The paper's lists as lists, oldest first, in its own order: p moves, a page makes room, the
    new one enters. Pinned pages at the old end of a list go to its young end."""

    def __init__(self) -> None:
        self.t1: list[bytes] = []
        self.t2: list[bytes] = []
        self.b1: list[bytes] = []
        self.b2: list[bytes] = []
        self.p = 0
        self.returning: list[bytes] = []

    @property
    def pages(self) -> list[bytes]:
        return self.t1 + self.t2

    def touch(self, key: bytes) -> None:
        (self.t1 if key in self.t1 else self.t2).remove(key)
        self.t2.append(key)

    def reorder(self, key: bytes) -> None:
        pages = self.t1 if key in self.t1 else self.t2
        pages.remove(key)
        pages.append(key)

    def discard(self, key: bytes) -> None:
        (self.t1 if key in self.t1 else self.t2).remove(key)

    def expect(self, key: bytes) -> None:
        if key in self.b1:
            self.b1.remove(key)
            self.p += max(1, len(self.b2) // max(1, len(self.b1)))
        elif key in self.b2:
            self.b2.remove(key)
            self.p -= max(1, len(self.b1) // max(1, len(self.b2)))
        else:
            return
        self.p = max(0, min(CAPACITY, self.p))
        self.returning = [*self.returning, key][-CAPACITY:]

    def make_room(self, pinned: set[bytes]) -> bytes | None:
        idle1, idle2 = self._idle(self.t1, pinned), self._idle(self.t2, pinned)
        if idle1 and (len(self.t1) > self.p or not idle2):
            self.b1.append(self.t1.pop(0))
            victim = self.b1[-1]
        elif idle2:
            self.b2.append(self.t2.pop(0))
            victim = self.b2[-1]
        else:
            return None
        self._trim()
        return victim

    def insert(self, key: bytes) -> None:
        if key in self.returning:
            self.returning.remove(key)
            self.t2.append(key)
        else:
            self.t1.append(key)
        self._trim()

    def _idle(self, pages: list[bytes], pinned: set[bytes]) -> bool:
        for _ in range(len(pages)):
            if pages[0] not in pinned:
                return True
            pages.append(pages.pop(0))
        return False

    def _trim(self) -> None:
        self.b1 = self.b1[max(0, len(self.t1) + len(self.b1) - CAPACITY) :]
        total = len(self.pages) + len(self.b1) + len(self.b2)
        self.b2 = self.b2[max(0, total - 2 * CAPACITY) :]


class Policy(RuleBasedStateMachine):
    """One cache under a policy, beside the same under the plain one."""

    make: Callable[[], EvictionPolicy] = Lru
    make_plain: Callable[[], PlainLru | PlainArc] = PlainLru

    def __init__(self) -> None:
        super().__init__()
        self.policy = type(self).make()
        self.plain = type(self).make_plain()
        self.pinned: set[bytes] = set()

    @rule(key=st.sampled_from(KEYS))
    def expect(self, key):
        self.policy.expect(key)
        self.plain.expect(key)

    @rule(key=st.sampled_from(KEYS), is_expected=st.booleans())
    def use(self, key, is_expected):
        if key in self.plain.pages:
            self.policy.touch(key)
            self.plain.touch(key)
            return
        if is_expected:
            self.expect(key)
        if len(self.plain.pages) == CAPACITY and not self.make_room():
            return
        self.plain.expect(key)
        self.policy.insert(key)
        self.plain.insert(key)

    def make_room(self) -> bool:
        found = self.policy.oldest(1, lambda key: key not in self.pinned)
        for key in found:
            self.policy.evict(key)
        expected = self.plain.make_room(self.pinned)
        assert found == [key for key in (expected,) if key is not None]
        return bool(found)

    @rule()
    def evict(self):
        self.make_room()

    @precondition(lambda self: self.plain.pages)
    @rule(data=st.data())
    def put_in_order(self, data):
        key = data.draw(st.sampled_from(sorted(self.plain.pages)))
        self.policy.reorder(key)
        self.plain.reorder(key)

    @precondition(lambda self: self.plain.pages)
    @rule(data=st.data())
    def discard(self, data):
        key = data.draw(st.sampled_from(sorted(self.plain.pages)))
        self.pinned.discard(key)
        self.policy.discard(key)
        self.plain.discard(key)

    @precondition(lambda self: self.plain.pages)
    @rule(data=st.data())
    def pin_or_unpin(self, data):
        self.pinned ^= {data.draw(st.sampled_from(sorted(self.plain.pages)))}

    @invariant()
    def holds_what_the_plain_one_holds(self):
        assert len(self.policy) == len(self.plain.pages)
        assert all(key in self.policy for key in self.plain.pages)
        if isinstance(self.policy, Arc):
            self.policy.check()

    @invariant()
    def oldest_says_what_would_go_one_by_one(self):
        policy = deepcopy(self.policy)
        expected = policy.oldest(CAPACITY, anything)
        gone = []
        while len(policy):
            gone += policy.oldest(1, anything)
            policy.evict(gone[-1])
        assert gone == expected


class LruPolicy(Policy):
    pass


class ArcPolicy(Policy):
    make = staticmethod(lambda: Arc(CAPACITY))
    make_plain = PlainArc


TestLru = LruPolicy.TestCase
TestArc = ArcPolicy.TestCase
for machine in (LruPolicy, ArcPolicy):
    machine.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
