"""Hints on a whole engine over tiers without bytes: what is kept, and for how long."""

from __future__ import annotations

from support.fake_engine import PAGE_TOKENS, FakeEngine, Sizes
from support.fake_tiers import reference_answer
from support.places import LONG, engine, everywhere, keys_of, only_in_l1, where

from kvtier_engine.messages import CachedTokens, CacheHints, Priority

NOTHING = CachedTokens()


class TestNoStore:
    HINTS = CacheHints(no_store=True)

    def test_leaves_nothing(self):
        made = engine()
        assert made.ask(LONG, hints=self.HINTS).cached == NOTHING
        assert where(made, LONG) == everywhere(0)
        assert made.pool.available == made.pool.pages
        assert made.ask(LONG).cached == NOTHING
        assert made.answers["ask-0"] == made.answers["ask-1"] == reference_answer(LONG, 3)

    def test_uses_what_others_stored_in_every_tier(self):
        made = engine()
        made.ask(LONG)
        assert made.ask(LONG, hints=self.HINTS).cached == CachedTokens(l1=16)
        made.pool.forget()
        assert made.ask(LONG, hints=self.HINTS).cached == CachedTokens(l2=16)
        assert where(made, LONG)["l1"] == 0, "nothing was brought up for others"
        other = engine()
        assert made.store is not None
        assert other.store is not None
        other.store.pages = made.store.pages
        assert other.ask(LONG, hints=self.HINTS).cached == CachedTokens(l3=16)

    def test_does_not_make_pages_younger(self):
        old, young = [1] * 5, [2] * 5
        made = engine(l1=4, l2=0, disk=False)
        made.ask(old, 1)
        made.ask(young, 1)
        made.ask(old, 1, hints=self.HINTS)
        made.ask([3] * 9, 1)  # three pages: the oldest of two goes
        assert made.ask(young, 1).cached == CachedTokens(l1=4)

    def test_nobody_waits_for_pages_that_it_computes(self):
        made = engine(max_step_tokens=64)
        made.submit("private", LONG, 2, hints=self.HINTS)
        made.submit("public", LONG, 2)
        made.step()
        assert made.scheduler.running == 2
        made.run()
        assert made.answers["public"] == reference_answer(LONG, 2)
        assert where(made, LONG) == everywhere(5)

    def test_comes_back_from_preemption(self):
        made = FakeEngine(Sizes(l1=12, l2=40))
        for name in "abc":
            prompt = [ord(name), *LONG[:11]]
            made.submit(name, prompt, 24, hints=self.HINTS)
        made.run()
        assert made.scheduler.counters.preemptions > 0
        for name in "abc":
            assert made.answers[name] == reference_answer([ord(name), *LONG[:11]], 24)


class TestPriority:
    def test_low_goes_first_and_high_last_in_l1_and_l2(self):
        prompts = {name: [ord(name)] * 9 for name in "nlh"}
        said = {"n": None, "l": Priority.LOW, "h": Priority.HIGH}
        made = engine(l1=9, l2=7, disk=False)
        for name in "hnl":  # the high one is the oldest
            priority = said[name]
            made.ask(prompts[name], 1, hints=priority and CacheHints(priority=priority))
        made.ask([1] * 9, 1)
        made.ask([2] * 9, 1)
        assert made.host is not None
        left = {
            name: [
                [made.pool.find(key) is not None for key in keys_of(made, prompt)],
                [made.host.find(key) is not None for key in keys_of(made, prompt)],
            ]
            for name, prompt in prompts.items()
        }
        assert left["h"] == [[True, True], [True, True]]
        assert left["l"] == [[False, False], [False, False]]

    def test_a_page_has_the_highest_priority_of_its_uses(self):
        made = engine(l1=7, l2=0, disk=False)
        made.ask([1] * 9, 1, hints=CacheHints(priority=Priority.LOW))
        made.ask([2] * 9, 1, hints=CacheHints(priority=Priority.LOW))
        made.ask([1] * 9, 1)  # normal now, and low uses do not change that
        made.ask([1] * 9, 1, hints=CacheHints(priority=Priority.LOW))
        made.ask([2] * 9, 1, hints=CacheHints(priority=Priority.LOW))
        made.ask([3] * 17, 1)
        assert made.ask([1] * 9, 1).cached == CachedTokens(l1=8)

    def test_pages_that_come_to_l2_late_have_it_too(self):
        made = engine(offload_delay=3)
        made.submit("a", LONG, 1, hints=CacheHints(priority=Priority.HIGH))
        made.run()
        made.step(5)
        assert made.host is not None
        said = [made.host.policy.priority(key) for key in keys_of(made, LONG)]  # type: ignore[attr-defined]
        assert said == [Priority.HIGH] * 5
        assert not made.manager.hints._late


class TestPins:
    HINTS = CacheHints(pin=True)

    def test_pinned_pages_outlive_everything_in_l2_and_l3(self):
        made = engine(l1=8, l2=20)
        output = made.ask(LONG, 1, hints=self.HINTS)
        assert output.pin_refused is None
        for salt in range(30):
            made.ask([30 + salt, *LONG], 1)
        assert where(made, LONG)["l2"] == 5
        assert made.store is not None
        made.store.evict(keys_of(made, LONG))
        assert where(made, LONG)["l3"] == 5
        assert made.manager.hints.pins.remove(keys_of(made, LONG)) == 5
        made.store.evict(keys_of(made, LONG))
        assert where(made, LONG)["l3"] == 0
        for salt in range(30):
            made.ask([30 + salt, *LONG], 1)
        assert where(made, LONG)["l2"] == 0

    def test_a_quarter_of_l2_and_no_more(self):
        made = engine(l2=24)
        assert made.ask(LONG, 1, hints=self.HINTS).pin_refused is None
        assert made.ask(LONG, 1, hints=self.HINTS).pin_refused is None, "these are pinned already"
        refused = made.ask([9] * 9, 1, hints=self.HINTS).pin_refused
        assert refused is not None
        assert "2 more pages would be pinned, 5 are; at most 6" in refused
        assert len(made.manager.hints.pins) == 5
        assert made.ask([9] * 4, 1, hints=self.HINTS).pin_refused is None

    def test_pages_that_were_in_l1_alone_come_down(self):
        made = engine()
        made.ask(LONG)
        only_in_l1(made, keys_of(made, LONG)[:4])
        made.ask(LONG, 1, hints=self.HINTS)
        assert where(made, LONG) == everywhere(5)

    def test_pinned_pages_do_not_go_with_their_session_until_unpinned(self):
        made = engine()
        made.ask(LONG, 1, hints=CacheHints(pin=True, session="a", end_of_session=True, ttl_s=5))
        made.now = 6
        made.step()
        assert where(made, LONG) == everywhere(5)
        made.manager.hints.pins.remove(keys_of(made, LONG))
        made.step()
        assert where(made, LONG) == everywhere(0)

    def test_pages_that_were_never_computed_are_not_pinned(self):
        made = engine()
        made.submit("a", LONG, 1, hints=self.HINTS)
        made.step()  # eight tokens, two pages
        assert len(made.manager.hints.pins) == 5
        made.scheduler.abort("a")
        made.run()
        assert len(made.manager.hints.pins) == 2

    def test_without_l2_or_reuse_it_is_refused(self):
        for sizes in ({"l2": 0, "disk": False}, {"prefix_reuse": False}):
            made = engine(**sizes)
            assert "nothing can be pinned" in str(made.ask(LONG, hints=self.HINTS).pin_refused)


def test_without_hints_there_are_no_books():
    made = engine()
    made.ask(LONG)
    hints = made.manager.hints
    assert not hints.sessions.pages
    assert not hints.deadlines
    assert not hints.pins
    assert made.outputs["ask-0"][0].pin_refused is None


def test_the_page_size_of_these_tests():
    assert len(LONG) == 5 * PAGE_TOKENS
