"""L1's page pool against a dictionary, and the order in which it forgets."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvtier_engine.kv.pages import PagePool
from kvtier_engine.kv.policy import Lru

PAGES = 6


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def filled(chain: list[int]) -> PagePool:
    """A pool in which a chain of three was computed and released."""
    pool = PagePool(3, Lru())
    pages = pool.allocate(3)
    assert pages is not None
    for page, number in zip(pages, chain, strict=True):
        assert pool.publish(page, key(number))
    pool.release(pages)
    pool.touch([key(number) for number in chain])
    return pool


def test_the_tail_of_a_chain_goes_first():
    pool = filled([1, 2, 3])
    for gone in (3, 2, 1):
        assert pool.allocate(1) is not None
        assert pool.find(key(gone)) is None
        assert all(pool.find(key(left)) is not None for left in range(1, gone))


def test_a_touched_chain_outlives_another():
    pool = PagePool(2, Lru())
    for number in (1, 2):
        [page] = pool.allocate(1) or []
        pool.publish(page, key(number))
        pool.release([page])
    pool.touch([key(1)])
    pool.allocate(1)
    assert pool.find(key(1)) is not None
    assert pool.find(key(2)) is None


def test_held_pages_are_not_given_away():
    pool = filled([1, 2, 3])
    held = [pool.find(key(1)), pool.find(key(2))]
    pool.hold([page for page in held if page is not None])
    assert pool.allocate(2) is None
    assert pool.allocate(1) is not None
    assert pool.find(key(3)) is None


def test_a_dropped_page_is_free_again():
    pool = filled([1, 2, 3])
    pool.drop(key(3))
    pool.drop(key(9))  # was never here
    pool.check()
    assert pool.find(key(3)) is None
    assert pool.available == 3
    assert pool.allocate(1) is not None
    assert pool.find(key(1)) is not None


def test_the_second_to_publish_a_key_keeps_its_page_private():
    pool = PagePool(2, Lru())
    first, second = pool.allocate(2) or []
    assert pool.publish(first, key(1))
    assert not pool.publish(second, key(1))
    pool.release([second, first])
    assert pool.find(key(1)) == first
    pool.check()


class Pool(RuleBasedStateMachine):
    """The model: who holds which page, and which keys were ever published where."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(PAGES, Lru())
        self.held: list[int] = []
        self.published: dict[int, int] = {}

    @rule(count=st.integers(0, PAGES + 1))
    def allocate(self, count):
        room = self.pool.available
        pages = self.pool.allocate(count)
        assert (pages is None) == (count > room)
        assert not set(pages or []) & set(self.held), "a held page was given away"
        self.held += pages or []

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        page = data.draw(st.sampled_from(self.held))
        self.held.remove(page)
        self.pool.release([page])

    @precondition(lambda self: self.held)
    @rule(data=st.data(), number=st.integers(0, 8))
    def publish(self, data, number):
        page = data.draw(st.sampled_from(self.held))
        if self.pool.publish(page, key(number)):
            self.published[number] = page

    @rule(number=st.integers(0, 8))
    def hold(self, number):
        page = self.pool.find(key(number))
        if page is not None:
            self.pool.hold([page])
            self.held.append(page)

    @rule(numbers=st.lists(st.integers(0, 8), unique=True))
    def touch(self, numbers):
        self.pool.touch([key(number) for number in numbers])

    @rule(number=st.integers(0, 8))
    def drop(self, number):
        page = self.pool.find(key(number))
        assert self.pool.is_held(key(number)) == (page in self.held)
        if page not in self.held:
            self.pool.drop(key(number))
            assert self.pool.find(key(number)) is None

    @rule()
    def forget(self):
        self.pool.forget()
        assert all(self.pool.find(key(number)) is None for number in range(9))

    @invariant()
    def agrees(self):
        self.pool.check()
        assert self.pool.held == len(set(self.held))
        for number in range(9):  # no phantom: a key leads to the page it was published for
            page = self.pool.find(key(number))
            assert page is None or self.published[number] == page


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
