"""Times to live, against a dictionary."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvtier_engine.kv.deadlines import Deadlines


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def test_beyond_the_limit_the_next_to_go_goes_early():
    deadlines = Deadlines(keys_max=2)
    for number, at in ((1, 30.0), (2, 10.0), (3, 20.0)):
        deadlines.set(key(number), at)
    assert deadlines.due(0.0) == [key(2)]
    assert deadlines.due(25.0) == [key(3)]
    assert len(deadlines) == 1


def test_used_again_and_again_takes_no_memory():
    deadlines = Deadlines()
    for at in range(10_000):
        deadlines.set(key(1), float(at))
        deadlines.set(key(2), float(10_000 - at))
    assert len(deadlines._heap) < 100
    assert deadlines.due(9_998.0) == [key(2)]
    assert deadlines.due(9_999.0) == [key(1)]


class Time(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Deadlines()
        self.at: dict[bytes, float] = {}
        self.now = 0.0

    keys = st.integers(0, 5).map(key)

    @rule(page=keys, seconds=st.integers(1, 20))
    def set(self, page, seconds):
        self.deadlines.set(page, self.now + seconds)
        self.at[page] = self.now + seconds

    @rule(page=keys)
    def cancel(self, page):
        self.deadlines.cancel(page)
        self.at.pop(page, None)

    @rule(seconds=st.integers(1, 9))
    def time_passes(self, seconds):
        self.now += seconds
        over = {page for page, at in self.at.items() if at <= self.now}
        found = self.deadlines.due(self.now)
        assert len(found) == len(set(found))
        assert set(found) == over
        for page in over:
            del self.at[page]

    @invariant()
    def agrees(self):
        assert len(self.deadlines) == len(self.at)


TestTime = Time.TestCase
TestTime.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
