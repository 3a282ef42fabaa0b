"""Scheduler and cache manager together, over tiers without bytes (support/fake_tiers.py)."""

import pytest
from support.fake_engine import PAGE_TOKENS, FakeEngine, Sizes, page_keys
from support.fake_tiers import reference_answer

from kvtier_engine.kv.keys import root_key
from kvtier_engine.messages import CachedTokens, CacheHints
from kvtier_store import Status

LONG = list(range(20))  # five pages; the last is computed anyway, for its logits


def test_an_answer_is_the_reference():
    engine = FakeEngine()
    engine.submit("a", LONG, 7)
    engine.run()
    assert engine.answers["a"] == reference_answer(LONG, 7)
    assert engine.finished == {"a": "length"}


def test_the_second_time_comes_from_l1():
    engine = FakeEngine()
    assert engine.ask(LONG).cached == CachedTokens()
    computed = engine.ranks.computed
    assert engine.ask(LONG).cached == CachedTokens(l1=16)
    assert engine.ranks.computed - computed == 4 + 2  # the last page, and two drawn tokens


def test_generated_tokens_are_cached_as_well():
    engine = FakeEngine()
    engine.submit("a", LONG, 9)
    engine.run()
    whole = LONG + engine.answers["a"][:8]  # the last token drawn was never computed
    assert engine.ask([*whole, 1]).cached == CachedTokens(l1=28)


def test_what_l1_forgot_comes_from_l2():
    engine = FakeEngine()
    engine.ask(LONG)
    engine.pool.forget()
    assert engine.ask(LONG).cached == CachedTokens(l2=16)
    assert engine.ranks.copied_up == 4
    assert engine.answers["ask-1"] == reference_answer(LONG, 3)


def test_a_page_that_is_not_admitted_is_offered_again_when_it_is_used():
    engine = FakeEngine()
    assert engine.store is not None
    assert engine.manager.saver is not None
    engine.store.sightings_min = 2
    engine.ask(LONG)
    assert engine.store.pages == {}
    assert engine.manager.saver.not_admitted == 5
    engine.now += 3600
    engine.step(3)
    assert len(engine.store.offered) == 5, "offered again without having been used"
    engine.ask(LONG)
    assert len(engine.store.pages) == 4, "the pages that were found, not the one computed again"
    assert engine.manager.saver.saved == 4
    assert engine.manager.saver.refused == 0


def test_the_store_hears_how_long_the_chain_is():
    engine = FakeEngine()
    assert engine.store is not None
    engine.submit("a", LONG, 9)
    engine.run()
    assert {put.chain_pages for put in engine.store.offered} == {5}
    assert len(engine.store.offered) == 7  # those that the answer fills belong to the same five


def test_a_new_engine_on_the_same_disk_is_warm():
    first = FakeEngine()
    first.ask(LONG)
    assert first.store is not None
    second = FakeEngine()
    assert second.store is not None
    second.store.pages = first.store.pages
    assert second.ask(LONG).cached == CachedTokens(l3=16)
    assert second.answers["ask-0"] == reference_answer(LONG, 3)
    assert second.store.reads == 4


def test_a_new_engine_on_the_same_arena_is_warm_and_checks_before_use():
    first = FakeEngine(Sizes(disk=False))
    first.ask(LONG)
    assert first.arena is not None
    second = FakeEngine(Sizes(disk=False), arena=first.arena)
    assert second.ask(LONG).cached == CachedTokens(l2=16)
    first.arena.bad = {slot for slot, key in first.arena.table.items() if key == page_keys(LONG)[2]}
    third = FakeEngine(Sizes(disk=False), arena=first.arena)
    assert third.ask(LONG).cached == CachedTokens(l2=8)
    assert third.host is not None
    assert third.host.corrupt == 1


def _key_of_page(engine: FakeEngine, index: int) -> bytes:
    pages = engine.manager.new_sequence(root_key(b"n" * 16))
    pages.chain.extend(LONG)
    return pages.chain.keys[index]


@pytest.mark.parametrize("status", [Status.MISS, Status.CORRUPT, Status.IO_ERROR, Status.TIMED_OUT])
def test_a_page_the_disk_fails_on_is_computed(status):
    first = FakeEngine()
    first.ask(LONG)
    second = FakeEngine()
    assert first.store is not None
    assert second.store is not None
    second.store.pages = first.store.pages
    second.submit("a", LONG, 3)
    second.step()
    second.store.end_one()
    second.store.end_one(status)
    second.run()
    assert second.outputs["a"][0].cached == CachedTokens(l3=12)  # all but the hole
    assert second.answers["a"] == reference_answer(LONG, 3)


def test_same_middle_after_another_beginning_shares_nothing():
    engine = FakeEngine()
    engine.ask([1, 2, 3, 4, *LONG])
    assert engine.ask([4, 3, 2, 1, *LONG]).cached == CachedTokens()


def test_tenants_share_nothing():
    engine = FakeEngine()
    engine.ask(LONG, salt="a")
    assert engine.ask(LONG, salt="b").cached == CachedTokens()
    assert engine.ask(LONG, salt="a").cached == CachedTokens(l1=16)
    assert engine.ask(LONG, salt="a", tenant="a").cached == CachedTokens()
    assert engine.ask(LONG, tenant="a").cached == CachedTokens()
    assert engine.ask(LONG, tenant="a").cached == CachedTokens(l1=16)


def test_without_reuse_nothing_is_found_and_nothing_is_kept():
    engine = FakeEngine(Sizes(prefix_reuse=False))
    engine.ask(LONG)
    assert engine.ask(LONG).cached == CachedTokens()
    assert engine.pool.available == engine.pool.pages
    assert engine.host is not None
    assert engine.host.held == 0


def test_one_flight_per_page_when_many_ask_for_one_prefix():
    engine = FakeEngine(Sizes(l1=40))
    for name in "abcd":
        engine.submit(name, LONG, 2)
    engine.run()
    assert engine.ranks.computed == 20 + 3 * 4 + 4  # one whole prompt, three last pages, decode
    assert all(engine.answers[name] == reference_answer(LONG, 2) for name in "abcd")


def test_requests_that_read_the_disk_share_the_reads():
    first = FakeEngine()
    first.ask(LONG)
    second = FakeEngine(Sizes(l1=40))
    assert first.store is not None
    assert second.store is not None
    second.store.pages = first.store.pages
    for name in "abc":
        second.submit(name, LONG, 2)
    second.run()
    assert second.store.reads == 4


def test_others_go_on_while_one_waits_for_the_disk():
    first = FakeEngine()
    first.ask(LONG)
    second = FakeEngine()
    assert first.store is not None
    assert second.store is not None
    second.store.pages = first.store.pages
    second.submit("slow", LONG, 2)
    second.submit("quick", [9, 9, 9], 2)
    while "quick" not in second.finished:
        assert second.step_once()
    assert second.answers["slow"] == []
    second.run()
    assert second.answers["slow"] == reference_answer(LONG, 2)


def test_preempted_sequences_come_back_from_the_cache():
    engine = FakeEngine(Sizes(l1=12, l2=40))
    for name in "abc":
        engine.submit(name, [ord(name), *LONG[:11]], 24)  # 9 pages each in the end; L1 has 12
    engine.run()
    assert engine.scheduler.counters.preemptions > 0
    assert engine.manager.restores.pages > 0
    for name in "abc":
        assert engine.answers[name] == reference_answer([ord(name), *LONG[:11]], 24)


def test_offloads_that_take_long_hold_their_pages():
    engine = FakeEngine(Sizes(offload_delay=3))
    engine.submit("a", LONG, 8)
    engine.run()
    assert engine.answers["a"] == reference_answer(LONG, 8)
    assert engine.host is not None
    assert engine.host.held == 6


def test_abort_gives_everything_back_at_any_point():
    for steps in range(12):
        engine = FakeEngine()
        engine.submit("a", LONG, 6)
        engine.step(steps)
        assert engine.scheduler.abort("a") == ("a" not in engine.finished)
        engine.run()
        assert engine.pool.available == engine.pool.pages


def test_abort_while_the_disk_is_read_leaves_no_pin():
    first = FakeEngine()
    first.ask(LONG)
    second = FakeEngine()
    assert first.store is not None
    assert second.store is not None
    assert second.host is not None
    second.store.pages = first.store.pages
    second.submit("a", LONG, 3)
    second.step()
    assert second.store.open
    second.scheduler.abort("a")
    second.run()
    assert second.host.pinned == 0
    assert second.ask(LONG).cached == CachedTokens(l2=16)  # the reads were not in vain


def test_stop_tokens_and_limits_end_an_answer():
    answer = reference_answer(LONG, 12)
    third = answer[2]
    first_at = answer.index(third)

    engine = FakeEngine(Sizes(eos_ids=(third,)))
    engine.submit("eos", LONG, 12)
    engine.submit("ignored", LONG, 12, ignore_eos=True)
    engine.submit("stop id", LONG, 12, ignore_eos=True, stop_token_ids=(third,))
    engine.submit("not yet", LONG, 12, min_tokens=12)
    engine.run()
    assert engine.answers["eos"] == engine.answers["stop id"] == answer[: first_at + 1]
    assert engine.finished["eos"] == engine.finished["stop id"] == "stop"
    assert engine.outputs["eos"][-1].stop_token == third
    assert engine.answers["ignored"] == engine.answers["not yet"] == answer
    assert engine.finished["ignored"] == "length"

    short = FakeEngine(Sizes(max_context_tokens=24))
    short.submit("full", LONG, 100)
    short.run()
    assert short.answers["full"] == answer[:4]
    assert short.finished["full"] == "length"


def test_a_large_request_is_not_overtaken_for_ever():
    engine = FakeEngine(Sizes(l1=8, l2=0, disk=False))
    engine.submit("running", [1, 2, 3], 20)
    engine.step(3)
    engine.submit("large", list(range(27)), 2)
    for name in range(40):
        engine.submit(str(name), [name, name, name], 2)
    engine.run()
    order = list(engine.finished)
    assert order.index("large") == 1  # after the one that ran, before those that came later


def test_pinned_pages_go_to_the_disk_though_they_are_never_evicted():
    engine = FakeEngine(Sizes(l1=24, l2=40, write="on_evict"))
    assert engine.store is not None
    engine.ask(LONG, hints=CacheHints(pin=True))
    assert len(engine.store.pages) == 5
    engine.ask([9, *LONG])
    assert len(engine.store.pages) == 5, "others wait until they are evicted"
    engine.ask([9, *LONG], hints=CacheHints(pin=True))
    assert len(engine.store.pages) == 10


def test_the_page_size_of_these_tests():
    assert len(LONG) == 5 * PAGE_TOKENS
