"""The rule that says which pages are worth a write."""

from __future__ import annotations

import math
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtier_engine.kv import admit
from kvtier_engine.kv.admit import (
    DAY_S,
    Admission,
    SeenPages,
    Uses,
    WriteBudget,
)


def key(number: int) -> bytes:
    return number.to_bytes(8, "big") * 2  # the first eight bytes tell keys apart


def digest(number: int) -> bytes:
    """As real keys are: spread over all buckets."""
    return blake2b(b"%d" % number, digest_size=16).digest()


def keys(*numbers: int) -> list[bytes]:
    return [key(number) for number in numbers]


def computes(*numbers: int) -> Uses:
    return Uses(found=[], computed=keys(*numbers), from_disk=set())


def admission(**changes: object) -> Admission:
    return Admission(32, slot_bytes=10, **changes)  # type: ignore[arg-type]


class Requests:
    """Requests whose pages all leave memory before the next one; the times of a rule."""

    def __init__(self, rule: Admission) -> None:
        self.rule = rule
        self.now = 0.0
        self._fresh = 1000

    def ask(self, chain: list[bytes]) -> None:
        self.now += 1.0
        self.rule.used(Uses([], chain, set()), self.now)
        for each in reversed(chain):
            if self.rule.admits(each, False, self.now):
                self.rule.stored(each, self.now)

    def fresh(self, pages: int) -> list[bytes]:
        """A chain that nobody has asked for before."""
        self._fresh += pages
        return [digest(number) for number in range(self._fresh - pages, self._fresh)]

    def rounds(self, count: int, fresh: int) -> None:
        """Of twenty pages that come again, after as many as `fresh` that do not."""
        for _ in range(count):
            self.ask([digest(number) for number in range(20)])
            self.ask(self.fresh(fresh))


def too_small(rule: Admission) -> Requests:
    """A disk of 32 pages finds none of the twenty after 40 others, if it takes those."""
    requests = Requests(rule)
    requests.rounds(10, fresh=40)
    return requests


def test_all_is_taken_until_the_disk_turns_out_too_small():
    rule = admission()
    assert rule.admits(key(1), False, 0.0)
    assert rule.eviction_age_s == math.inf
    requests = too_small(rule)
    assert not rule.takes_all
    assert not rule.admits(key(2), False, requests.now)
    assert rule.eviction_age_s < rule.reuse_gap_s == pytest.approx(2.0)


def test_all_is_taken_while_pages_used_once_bring_hits_however_long_other_gaps_are():
    """Each chain is asked for twice, soon; the twenty come again after the disk has lost them."""
    rule = admission()
    requests = Requests(rule)
    for _ in range(50):
        requests.ask([digest(number) for number in range(20)])
        for _ in range(10):
            chain = requests.fresh(10)
            requests.ask(chain)
            requests.ask(chain)
    assert rule.takes_all


def test_what_never_comes_again_is_not_written():
    rule = admission()
    requests = Requests(rule)
    for _ in range(100):
        requests.ask(requests.fresh(4))
    assert not rule.takes_all


def test_a_disk_that_is_too_small_takes_what_was_used_before():
    rule = admission()
    now = too_small(rule).now
    assert rule.admits(key(3), True, now), "in memory"
    assert not rule.admits(key(4), False, now)
    assert rule.admits(key(4), False, now), "offered for the second time"
    rule.stored(key(5), now)
    assert rule.admits(key(5), False, now), "it was on disk once, and is computed again"


def test_a_disk_that_finds_more_if_it_takes_all_does_so_again():
    rule = admission()
    requests = too_small(rule)
    for _ in range(50):
        chain = requests.fresh(8)
        requests.ask(chain)
        requests.ask(chain)
    assert rule.takes_all


def test_hits_in_memory_are_no_reason():
    """What memory finds, the disk need not have."""
    rule = admission()
    requests = Requests(rule)
    for _ in range(50):
        chain = requests.fresh(8)
        requests.ask(chain)
        rule.used(Uses(chain, [], set()), requests.now)
    assert not rule.takes_all


def test_memory_counts_to_what_the_disk_keeps():
    small, large = admission(), admission(memory_pages=40)
    too_small(small)
    too_small(large)
    assert (small.takes_all, large.takes_all) == (False, True)


def test_a_large_disk_is_followed_by_some_of_its_pages(monkeypatch):
    monkeypatch.setattr(admit, "MINIATURE_PAGES", 64)
    rule = Admission(1024, slot_bytes=1)
    requests = Requests(rule)
    hot = [digest(number) for number in range(600)]
    for _ in range(8):
        requests.ask(hot)
        requests.ask(requests.fresh(1100))
    assert not rule.takes_all


def test_gaps_are_those_that_the_disk_could_bridge():
    rule = admission()
    rule.stored(key(1), 10.0)
    rule.used(Uses(keys(1), [], set()), 15.0)  # from memory: no gap, but a use
    assert rule.reuse_gap_s == 0.0
    rule.used(Uses(keys(1, 2), keys(3), {key(1), key(2)}), 40.0)
    assert rule.reuse_gap_s == pytest.approx(25.0), "2 was written by another engine, 3 is new"
    rule.used(Uses(keys(2), [], {key(2)}), 50.0)
    assert 10.0 < rule.reuse_gap_s < 25.0


def test_a_few_long_gaps_do_not_hide_many_short_ones():
    rule = admission()
    now = 0.0
    rule.stored(key(1), now)
    for number in range(64):
        now += 10_000.0 if number % 8 == 7 else 1.0
        rule.used(Uses(keys(1), [], {key(1)}), now)
    assert 1.0 < rule.reuse_gap_s < 10.0


def test_without_a_choice_only_the_budget_counts():
    rule = admission(is_choosy=False, budget=WriteBudget(2500, lambda: 0))
    for number in range(100):
        rule.used(computes(number), 0.0)
    assert [rule.admits(key(n), False, 0.0) for n in range(12)] == [True] * 10 + [False] * 2
    assert rule.capped == 2


def test_what_the_budget_kept_out_is_remembered():
    rule = admission(budget=WriteBudget(1, lambda: 0))
    assert not rule.admits(key(1), False, 0.0)
    assert rule.capped == 1
    rule.used(computes(1), 7.0)
    assert rule.reuse_gap_s == pytest.approx(7.0)


@given(
    st.lists(st.tuples(st.floats(0, DAY_S / 3), st.integers(1, 400)), max_size=60),
    st.lists(st.tuples(st.floats(-DAY_S, 0), st.integers(1, 9000)), max_size=3),
)
def test_a_budget_is_never_exceeded_in_a_day(takes, written):
    """Whatever is asked for and when; other processes may have written before."""
    now = 0.0

    def last_day() -> int:
        return sum(count for then, count in written if then > now - DAY_S)

    budget = WriteBudget(10_000, last_day)
    for wait_s, count in takes:
        now += wait_s
        if budget.take(count, now):
            written.append((now, count))
            assert last_day() <= 10_000


def test_what_others_have_written_counts_until_it_is_a_day_ago():
    budget = WriteBudget(10_000, lambda: 9_900)
    assert not budget.take(200, 0.0)
    assert budget.take(100, 1.0)
    assert not budget.take(1, 2.0)
    assert budget.take(100, 62.0), "looked again"


def test_a_budget_lasts_for_the_whole_day():
    budget = WriteBudget(24_000, lambda: 0)
    hours = [sum(budget.take(100, 3600.0 * hour) for _ in range(1000)) for hour in range(25)]
    assert all(8 <= writes <= 10 for writes in hours)


@given(st.integers(2, 300), st.integers(1, 1000))
def test_pages_are_forgotten_in_the_order_of_their_last_uses(pages, count):
    """No page behind one that is forgotten is known: a chain would be written with holes."""
    seen = SeenPages(pages)
    for number in range(count):
        seen.add(digest(number), float(number))
    known = [digest(number) in seen for number in range(count)]
    assert known == sorted(known)
    assert min(count, pages // 2) <= sum(known) <= pages


def test_a_page_that_is_used_is_remembered_longer():
    seen = SeenPages(8)
    for number in range(1, 20):
        seen.add(digest(number), float(number))
        assert seen.use(digest(1), number + 0.5) is not None
    assert digest(2) not in seen
    assert seen.use(digest(2), 102.0) is None


@given(st.lists(st.integers(1, 30)))
def test_seen_pages_are_a_dictionary_while_they_fit(numbers):
    seen, plain = SeenPages(62), {}
    for now, number in enumerate(numbers):
        before = seen.use(digest(number), now)
        assert before == (now - plain[number] if number in plain else None)
        seen.add(digest(number), now)
        plain[number] = now
    assert all((digest(number) in seen) == (number in plain) for number in range(31))
