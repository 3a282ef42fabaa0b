"""The store against a dictionary: no loss, no phantom, across reopenings."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from support.store_client import get, key, open_store, put

from kvtier_store import Status

KEYS = st.integers(0, 19)
CAPACITIES = st.lists(st.integers(1, 7), min_size=1, max_size=3)  # few: evictions happen


class StoreMachine(RuleBasedStateMachine):
    """`held` is what must be there; a put at capacity may evict one unpinned page of it."""

    @initialize(capacities=CAPACITIES)
    def begin(self, capacities: list[int]) -> None:
        self.folders = [Path(tempfile.mkdtemp()) for _ in capacities]
        self.held: set[int] = set()
        self.pinned: set[int] = set()
        self.open(capacities)

    def open(self, capacities: list[int]) -> None:
        self.capacities = capacities
        self.store = open_store(*self.folders, pages=capacities)

    def present(self) -> set[int]:
        found = self.store.contains([key(i) for i in range(20)])
        return {i for i in range(20) if found[i]}

    @rule(i=KEYS, parent=st.none() | KEYS)
    def put_page(self, i: int, parent: int | None) -> None:
        status = put(self.store, i, parent)
        if i in self.held:
            assert status is Status.ALREADY_PRESENT
            return
        assert status is Status.OK or (status is Status.NO_ROOM and self.pinned)
        now = self.present()
        lost = self.held - now
        assert len(lost) <= 1
        assert not lost & self.pinned
        assert now - self.held <= {i}, "a page came from nowhere"
        self.held = now

    @rule(i=KEYS)
    def get_page(self, i: int) -> None:
        assert get(self.store, i) is (Status.OK if i in self.held else Status.MISS)

    @rule(some=st.lists(KEYS, max_size=5))
    def touch(self, some: list[int]) -> None:
        self.store.touch([key(i) for i in some])

    @rule(i=KEYS)
    def evict(self, i: int) -> None:
        expected = i in self.held and i not in self.pinned
        assert self.store.evict([key(i)]) == expected
        if expected:
            self.held.discard(i)

    @precondition(lambda self: len(self.pinned) < 3)
    @rule(i=KEYS)
    def pin(self, i: int) -> None:
        if i in self.held and i not in self.pinned:
            self.store.pin([key(i)])
            self.pinned.add(i)

    @rule()
    def unpin_all(self) -> None:
        self.store.unpin([key(i) for i in self.pinned])
        self.pinned.clear()

    @rule()
    def flush(self) -> None:
        self.store.flush()

    @rule()
    def clear(self) -> None:
        assert self.store.clear() == len(self.held)
        self.held.clear()
        self.pinned.clear()

    @rule()
    def verify(self) -> None:
        report = self.store.verify()
        assert (report.pages, report.bad) == (len(self.held), {})

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.pinned.clear()
        self.open(self.capacities)

    @rule(others=st.lists(st.integers(1, 7), min_size=3, max_size=3))
    def resize(self, others: list[int]) -> None:
        self.store.close()
        self.pinned.clear()
        before, after = self.capacities, others[: len(self.folders)]
        self.open(after)
        now = self.present()
        assert now <= self.held
        if all(new >= old for old, new in zip(before, after, strict=True)):
            assert now == self.held
        fewer = sum(max(0, old - new) for old, new in zip(before, after, strict=True))
        assert len(self.held) - len(now) <= fewer
        self.held = now

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert len(self.held) <= sum(self.capacities)
        assert self.present() == self.held
        assert self.store.stats().pages == len(self.held)
        assert self.store.stats().corrupt == {}

    def teardown(self) -> None:
        self.store.close()
        for folder in self.folders:
            shutil.rmtree(folder)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
