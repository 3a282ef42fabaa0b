"""Whose page it is, against a list of who has used it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvtier_engine.kv.sessions import Sessions


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def test_the_tail_that_nobody_else_used_goes_child_first():
    sessions = Sessions()
    for number in (1, 2, 3, 4):
        sessions.computed("a", key(number))
    sessions.used("b", [key(1), key(2)])
    assert sessions.end("a") == [key(4), key(3)]
    assert sessions.end("a") == []
    assert (sessions.pages, len(sessions)) == (0, 0)


def test_a_request_without_a_session_shares_what_it_uses():
    sessions = Sessions()
    sessions.computed("a", key(1))
    sessions.used(None, [key(1)])
    assert sessions.end("a") == []


def test_what_a_session_finds_is_not_its_own():
    sessions = Sessions()
    sessions.used("a", [key(1)])
    assert sessions.end("a") == []


def test_beyond_the_limit_the_session_that_was_silent_longest_is_forgotten():
    sessions = Sessions(keys_max=4)
    for number in (1, 2):
        sessions.computed("a", key(number))
    for number in (3, 4):
        sessions.computed("b", key(number))
    sessions.used("a", [key(1)])
    sessions.computed("c", key(5))
    sessions.check()
    assert sessions.pages == 4
    assert sessions.end("b") == [key(4)]
    assert sessions.end("a") == [key(2), key(1)]
    assert sessions.end("c") == [key(5)]


def test_one_session_alone_keeps_to_the_limit():
    sessions = Sessions(keys_max=2)
    for number in range(5):
        sessions.computed("a", key(number))
    assert sessions.end("a") == [key(4), key(3)]


class Use(RuleBasedStateMachine):
    """The model: the first to compute a page, and everybody who has used it since."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = Sessions()
        self.users: dict[bytes, set[str | None]] = {}
        self.owner: dict[bytes, str] = {}

    names = st.sampled_from("abc")
    keys = st.integers(0, 6).map(key)

    @rule(name=names, page=keys)
    def compute(self, name, page):
        self.sessions.computed(name, page)
        self.owner[page], self.users[page] = name, {name}

    @rule(name=names | st.none(), pages=st.lists(keys, unique=True))
    def use(self, name, pages):
        self.sessions.used(name, pages)
        for page in pages:
            if page in self.owner:
                self.users[page].add(name)

    @rule(name=names)
    def end(self, name):
        own = {page for page, owner in self.owner.items() if self.users[page] == {owner} == {name}}
        assert set(self.sessions.end(name)) == own
        for page in own:
            del self.owner[page]

    @invariant()
    def agrees(self):
        self.sessions.check()


TestUse = Use.TestCase
TestUse.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
