"""The rule that says which pages are worth a write."""

from __future__ import annotations

import math
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtier_engine.kv.admit import DAY_S, SAMPLES, Admission, SeenPages, Uses, WriteBudget


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


def too_small(rule: Admission, gap_s: float = 100.0, age_s: float = 50.0) -> None:
    """What the rule sees of a disk that evicts pages `gap_s - age_s` before their next use."""
    rule.stored(key(900), 0.0)
    rule.seen_on_disk(keys(900), [False], True, age_s)
    rule.used(computes(900), gap_s)


def test_all_is_taken_until_the_disk_turns_out_too_small():
    rule = admission()
    assert rule.admits(key(1), False, 0.0)
    assert rule.eviction_age_s == math.inf
    too_small(rule)
    assert (rule.eviction_age_s, rule.reuse_gap_s) == pytest.approx((50.0, 100.0))
    assert not rule.takes_all
    assert not rule.admits(key(2), False, 101.0)


def test_a_disk_that_is_too_small_takes_what_was_used_before():
    rule = admission()
    too_small(rule)
    assert rule.admits(key(3), True, 101.0), "in memory"
    assert not rule.admits(key(4), False, 101.0)
    assert rule.admits(key(4), False, 102.0), "offered for the second time"
    rule.stored(key(5), 0.0)
    assert rule.admits(key(5), False, 102.0), "it was on disk once, and is computed again"


def test_a_disk_that_keeps_pages_long_enough_again_takes_all():
    rule = admission()
    too_small(rule)
    for number in range(10):
        rule.stored(key(number), 0.0)
        rule.seen_on_disk(rule.samples(), [False] * len(rule.samples()), True, 1000.0)
    assert rule.eviction_age_s > rule.reuse_gap_s
    assert rule.admits(key(50), False, 1001.0)


def test_a_disk_that_still_has_what_is_older_than_the_gap_takes_all():
    rule = admission()
    too_small(rule)
    rule.stored(key(1), 100.0)
    rule.used(computes(2), 190.0)
    assert not rule.takes_all
    rule.used(computes(2), 210.0)
    assert rule.takes_all, "nothing has been evicted, and 1 is there for longer than the gap"


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


def test_use_makes_samples_younger():
    rule = admission()
    rule.stored(key(1), 0.0)
    rule.used(Uses(keys(1), [], set()), 30.0)
    rule.seen_on_disk(rule.samples(), [False], True, 50.0)
    assert rule.eviction_age_s == pytest.approx(20.0)


def test_pages_out_of_reach_say_nothing_of_ages():
    rule = admission()
    rule.stored(key(1), 0.0)
    rule.seen_on_disk(keys(1), [False], False, 50.0)
    assert rule.eviction_age_s == math.inf
    assert rule.samples() == []


def test_samples_are_few_and_those_that_stay_for_ever_make_room():
    rule = Admission(10 * SAMPLES, slot_bytes=1)
    for number in range(100 * SAMPLES):
        rule.stored(key(number), 0.0)
    samples = rule.samples()
    assert len(samples) == SAMPLES
    two_fills_ago = 100 * SAMPLES - 2 * 10 * SAMPLES
    assert key(two_fills_ago - 20) <= min(samples) <= key(two_fills_ago + 20)


def test_without_a_choice_only_the_budget_counts():
    rule = admission(is_choosy=False, budget=WriteBudget(2500, lambda: 0))
    too_small(rule)
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


def test_a_page_that_is_forgotten_is_the_oldest_of_its_bucket():
    seen = SeenPages(SeenPages.WAYS)
    for number in range(1, SeenPages.WAYS + 1):
        seen.add(key(number), float(number))
    assert seen.use(key(1), 100.0) == 99.0
    seen.add(key(50), 101.0)
    assert key(1) in seen
    assert key(2) not in seen
    assert seen.use(key(2), 102.0) is None


@given(st.lists(st.integers(1, 30)))
def test_seen_pages_are_a_dictionary_while_they_fit(numbers):
    seen, plain = SeenPages(30 * SeenPages.WAYS), {}
    for now, number in enumerate(numbers):
        before = seen.use(digest(number), now)
        assert before == (now - plain[number] if number in plain else None)
        seen.add(digest(number), now)
        plain[number] = now
    assert all((digest(number) in seen) == (number in plain) for number in range(31))
