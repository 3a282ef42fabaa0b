"""A request whose pages lie on a slow disk computes from the front what is loaded from the back."""

import pytest
from support.fake_engine import FakeEngine, Sizes
from support.fake_tiers import reference_answer

from kvtier_engine.kv.rates import PageRates
from kvtier_engine.messages import CachedTokens
from kvtier_store import Status

PROMPT = list(range(41))  # ten full pages, and a token that is computed anyway
AS_FAST = PageRates(compute=1.0, load=1.0)
SLOW = PageRates(compute=10.0, load=1.0)
FAST = PageRates(compute=1.0, load=100.0)


def on_disk(rates: PageRates, **sizes: int) -> FakeEngine:
    """An engine that finds the prompt's pages on its disk."""
    first = FakeEngine(Sizes(l1=24, l2=40))
    first.ask(PROMPT)
    engine = FakeEngine(Sizes(**{"l1": 24, "l2": 40, **sizes}))
    assert first.store is not None
    assert engine.store is not None
    engine.store.pages = first.store.pages
    engine.rates.now = rates
    return engine


def loaded(engine: FakeEngine) -> tuple[int, int]:
    """(met, pages computed that the disk had)."""
    assert engine.manager.loader is not None
    return engine.manager.loader.counters.met, engine.manager.loader.counters.computed_pages


def end_read(engine: FakeEngine) -> None:
    """The disk ends its oldest read, and what it was given to write before."""
    assert engine.store is not None
    reads = engine.store.reads
    while engine.store.open and engine.store.reads == reads:
        engine.store.end_one()


@pytest.mark.parametrize("rates", [FAST, PageRates(), PageRates(compute=1.0)])
def test_a_fast_disk_or_an_unknown_one_is_waited_for(rates):
    engine = on_disk(rates)
    engine.submit("a", PROMPT, 2)
    engine.step(5)
    assert engine.ranks.computed == 0
    engine.run()
    assert engine.outputs["a"][0].cached == CachedTokens(l3=40)
    assert engine.answers["a"] == reference_answer(PROMPT, 2)
    assert loaded(engine) == (0, 0)


def test_a_disk_as_fast_as_computing_does_half():
    engine = on_disk(AS_FAST)
    assert engine.store is not None
    engine.submit("a", PROMPT, 2)
    while not engine.finished:
        before = engine.ranks.computed
        engine.step()
        for _ in range((engine.ranks.computed - before) // 4):
            end_read(engine)  # a page is loaded while one is computed
    cached = engine.outputs["a"][0].cached
    assert cached is not None
    assert 16 <= cached.l3 <= 24
    assert engine.answers["a"] == reference_answer(PROMPT, 2)
    met, pages = loaded(engine)
    assert met == 1
    assert pages * 4 == 40 - cached.l3


def test_the_last_pages_are_read_first():
    engine = on_disk(SLOW)
    assert engine.store is not None
    engine.submit("a", PROMPT, 2)
    engine.step()
    asked = [request.key for request in engine.store.open if not hasattr(request, "parent")]
    assert asked == list(reversed(engine.store.pages))[:8]  # as many as may be on their way


def test_a_disk_that_gives_nothing_costs_nothing():
    engine = on_disk(PageRates(compute=10.0, load=0.0))
    engine.submit("a", PROMPT, 2)
    while not engine.finished:
        assert engine.step_once(), "the request waits for a dead disk"
    assert engine.outputs["a"][0].cached == CachedTokens()
    assert engine.answers["a"] == reference_answer(PROMPT, 2)
    engine.run()  # what was read in the end is in nobody's way


def test_a_disk_that_gets_slow_is_left_behind():
    engine = on_disk(FAST)
    assert engine.store is not None
    engine.submit("a", PROMPT, 2)
    engine.step(3)
    assert engine.ranks.computed == 0
    engine.store.end_one()
    engine.rates.now = PageRates(compute=10.0, load=0.0)
    while not engine.finished:
        assert engine.step_once()
    cached = engine.outputs["a"][0].cached
    assert cached == CachedTokens(l3=4)
    assert engine.answers["a"] == reference_answer(PROMPT, 2)
    engine.run()


def test_requests_for_one_prefix_compute_it_once():
    engine = on_disk(AS_FAST, l1=60)
    assert engine.store is not None
    for name in "ab":
        engine.submit(name, PROMPT, 2)
    while len(engine.finished) < 2:
        engine.store.end_one()
        engine.step()
    _, pages = loaded(engine)
    # What was not loaded, the last token of each, and one drawn token of each.
    assert engine.ranks.computed == pages * 4 + 2 * (1 + 1)
    assert engine.store.reads + pages >= 10
    assert engine.outputs["b"][0].cached == CachedTokens(l1=40)


def test_a_page_that_is_bad_on_disk_is_computed_in_its_place():
    engine = on_disk(FAST)
    assert engine.store is not None
    engine.submit("a", PROMPT, 2)
    engine.step()
    engine.store.end_one()
    engine.store.end_one(Status.CORRUPT)
    engine.run()
    assert engine.outputs["a"][0].cached == CachedTokens(l3=36)
    assert engine.ranks.computed == 4 + 1 + 1
    assert engine.answers["a"] == reference_answer(PROMPT, 2)


def test_an_l2_smaller_than_the_prompt_is_filled_again_and_again():
    engine = on_disk(FAST, l2=8)
    engine.submit("a", PROMPT, 2)
    engine.run()
    assert engine.answers["a"] == reference_answer(PROMPT, 2)
    cached = engine.outputs["a"][0].cached
    assert cached is not None
    assert cached.l3 > 4 * 4  # more than half of L2, which is all that it may pin at a time


@pytest.mark.parametrize("steps", range(8))
def test_an_abort_at_any_point_leaves_nothing_behind(steps):
    engine = on_disk(AS_FAST)
    assert engine.store is not None
    assert engine.host is not None
    engine.submit("a", PROMPT, 2)
    for _ in range(steps):
        engine.store.end_one()
        engine.step()
    engine.scheduler.abort("a")
    engine.run()
    assert engine.pool.available == engine.pool.pages
    assert engine.host.pinned == 0
    assert engine.manager.loader is not None
    assert engine.manager.loader.open_gaps == 0


def test_one_that_is_preempted_among_its_pages_comes_back():
    engine = on_disk(AS_FAST, l1=14)
    assert engine.store is not None
    engine.submit("old", [45, 46, 47], 40)  # grows to eleven pages
    engine.step(2)
    engine.submit("young", PROMPT, 2)
    while len(engine.finished) < 2:
        if engine.ranks.computed % 3 == 0:
            engine.store.end_one()
        engine.step()
    assert engine.scheduler.counters.preemptions > 0
    assert engine.answers["young"] == reference_answer(PROMPT, 2)
    assert engine.answers["old"] == reference_answer([45, 46, 47], 40)


def test_a_request_that_waited_long_for_room_still_waits_for_its_reads():
    engine = on_disk(FAST, l1=14, l2=8)
    engine.submit("old", [45, 46, 47], 40)  # holds L1
    engine.step(30)
    engine.submit("young", PROMPT, 2)
    assert engine.store is not None
    for _ in range(8):
        end_read(engine)
        engine.step()
    engine.now += 60
    engine.run()
    cached = engine.outputs["young"][0].cached
    assert cached is not None
    assert cached.l3 + cached.l2 == 40, "reads were given up as soon as they were asked for"


def test_one_whose_disk_is_busy_with_others_waits_as_well():
    engine = on_disk(PageRates(compute=0.1, load=10.0), l1=60, l2=80)
    assert engine.store is not None
    other = FakeEngine(Sizes(l1=24, l2=40))
    other.ask([7, *PROMPT])
    assert other.store is not None
    engine.store.pages |= other.store.pages
    engine.submit("a", PROMPT, 2)
    engine.step()  # as many reads as may be
    engine.submit("b", [7, *PROMPT], 2)
    engine.step(5)
    assert engine.ranks.computed == 0
    engine.run()
    assert loaded(engine) == (0, 0)


def test_one_that_waits_for_another_s_pages_keeps_no_slots():
    engine = on_disk(FAST, l1=60, l2=12)
    for name in "ab":
        engine.submit(name, PROMPT, 2)
    engine.run()
    cached = engine.outputs["a"][0].cached
    assert cached is not None
    assert cached.l3 == 40, "the other's pins kept the rest of the pages from L2"
    assert engine.ranks.computed == 2 * (1 + 1)
