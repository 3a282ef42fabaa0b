"""The store against a dictionary: no loss, no phantom, across reopenings and crashes."""

from __future__ import annotations

import shutil
import subprocess
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


def copy_as_it_is(folder: Path, *, sparse: bool) -> Path:
    """What another process finds there now, as after a kill -9."""
    copy = Path(tempfile.mkdtemp())
    how = "always" if sparse else "never"
    subprocess.run(["cp", "-r", f"--sparse={how}", f"{folder}/.", str(copy)], check=True)
    return copy


class StoreMachine(RuleBasedStateMachine):
    """`held` is what must be there; a put at capacity may evict one unpinned page of it.

    After a crash that is `durable`: what had been flushed and not been evicted since. Others of
    what was `ever` put may be there as well."""

    @initialize(capacities=CAPACITIES)
    def begin(self, capacities: list[int]) -> None:
        self.folders = [Path(tempfile.mkdtemp()) for _ in capacities]
        self.held: set[int] = set()
        self.durable: set[int] = set()
        self.ever: set[int] = set()
        self.pinned: set[int] = set()
        self.open(capacities)

    def open(self, capacities: list[int]) -> None:
        self.capacities = capacities
        self.corrupt: dict[str, int] = {}
        self.store = open_store(*self.folders, pages=capacities)

    def keep(self, now: set[int]) -> None:
        self.held = now
        self.durable &= now

    def close(self) -> None:
        self.store.close()
        self.pinned.clear()
        self.durable = set(self.held)

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
        self.ever |= now
        self.keep(now)

    @rule(some=st.lists(KEYS, min_size=2, max_size=8))
    def put_pages(self, some: list[int]) -> None:
        for i in some:
            self.put_page(i, None)

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
            self.keep(self.held - {i})

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
        self.durable = set(self.held)

    @rule()
    def clear(self) -> None:
        assert self.store.clear() == len(self.held)
        self.keep(set())
        self.pinned.clear()

    @rule()
    def verify(self) -> None:
        report = self.store.verify()
        assert (report.pages, report.bad) == (len(self.held), {})

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open(self.capacities)

    @rule(flushes=st.booleans(), sparse=st.booleans())
    def crash(self, flushes: bool, sparse: bool) -> None:
        if flushes:
            self.flush()
        copies = [copy_as_it_is(folder, sparse=sparse) for folder in self.folders]
        durable = self.durable
        self.close()
        self.remove_folders()
        self.folders = copies
        self.open(self.capacities)
        claimed = self.present()
        found = {i for i in claimed if get(self.store, i) is Status.OK}
        assert durable <= found, "a durable page is lost"
        assert claimed <= self.ever, "a page came from nowhere"
        # A slot whose new page the journal does not know yet, or one that was evicted and reused.
        self.corrupt = self.store.stats().corrupt
        assert set(self.corrupt) <= {"key", "sequence"}
        assert sum(self.corrupt.values()) == len(claimed - found)
        self.held, self.durable = found, set(found)

    @rule(others=st.lists(st.integers(1, 7), min_size=3, max_size=3))
    def resize(self, others: list[int]) -> None:
        self.close()
        before, after = self.capacities, others[: len(self.folders)]
        self.open(after)
        now = self.present()
        assert now <= self.held
        if all(new >= old for old, new in zip(before, after, strict=True)):
            assert now == self.held
        fewer = sum(max(0, old - new) for old, new in zip(before, after, strict=True))
        assert len(self.held) - len(now) <= fewer
        self.keep(now)

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert len(self.held) <= sum(self.capacities)
        assert self.present() == self.held
        assert self.store.stats().pages == len(self.held)
        assert self.store.stats().corrupt == self.corrupt

    def remove_folders(self) -> None:
        for folder in self.folders:
            shutil.rmtree(folder)

    def teardown(self) -> None:
        self.store.close()
        self.remove_folders()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
