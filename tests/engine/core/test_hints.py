"""Hints on a whole engine over tiers without bytes: what is kept, and for how long."""

from __future__ import annotations

from typing import Any

from support.fake_engine import PAGE_TOKENS, FakeEngine, Sizes
from support.fake_tiers import reference_answer

from kvtier_engine.kv.keys import root_key
from kvtier_engine.messages import CachedTokens, CacheHints, Priority

LONG = list(range(20))  # five pages, of which four can be found again
ROOT = root_key(b"n" * 16)
NOTHING = CachedTokens()


def engine(**sizes: Any) -> FakeEngine:
    return FakeEngine(Sizes(**{"l1": 40, "l2": 40, **sizes}))


def keys_of(made: FakeEngine, tokens: list[int]) -> list[bytes]:
    chain = made.manager.new_sequence(ROOT).chain
    chain.extend(tokens)
    return chain.keys


def where(made: FakeEngine, tokens: list[int]) -> dict[str, int]:
    """How many pages of `tokens` each tier has."""
    keys = keys_of(made, tokens)
    assert made.host is not None
    assert made.store is not None
    return {
        "l1": sum(made.pool.find(key) is not None for key in keys),
        "l2": sum(made.host.find(key) is not None for key in keys),
        "l3": sum(key in made.store.pages for key in keys),
    }


def everywhere(pages: int) -> dict[str, int]:
    return dict.fromkeys(("l1", "l2", "l3"), pages)


def only_in_l1(made: FakeEngine, keys: list[bytes]) -> None:
    assert made.host is not None
    assert made.store is not None
    for key in keys:
        made.host.drop(key)
        del made.store.pages[key]


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


class TestSessions:
    def turn(self, name: str, **more: Any) -> CacheHints:
        return CacheHints(session=name, **more)

    def test_the_end_takes_what_the_session_alone_has_used(self):
        made = engine()
        made.ask(LONG, hints=self.turn("a"))
        assert where(made, LONG) == everywhere(5)
        longer = LONG + made.answers["ask-0"] + LONG
        made.ask(longer, hints=self.turn("a", end_of_session=True))
        assert where(made, longer) == everywhere(0)
        assert made.manager.hints.dropped["end_of_session"] == 10 + 1  # and a page of the answer
        assert made.pool.available == made.pool.pages

    def test_what_another_has_used_stays(self):
        for other in (None, self.turn("b")):
            made = engine()
            made.ask(LONG, hints=self.turn("a"))
            made.ask([*LONG[:8], 7], hints=other)  # shares two pages
            made.manager.hints.end_session((ROOT, "a"))
            assert where(made, LONG) == everywhere(2)

    def test_what_was_there_before_stays(self):
        made = engine()
        made.ask(LONG)
        made.ask(LONG, hints=self.turn("a"))  # computes the last page again, for its logits
        made.manager.hints.end_session((ROOT, "a"))
        assert where(made, LONG) == everywhere(5)

    def test_what_was_in_l1_alone_stays(self):
        made = engine(l2=0, disk=False)
        made.ask(LONG)
        made.ask(LONG, hints=self.turn("a"))
        made.manager.hints.end_session((ROOT, "a"))
        assert all(made.pool.find(key) is not None for key in keys_of(made, LONG))

    def test_what_was_on_disk_alone_stays(self):
        made = engine()
        made.ask(LONG)
        made.pool.forget()
        assert made.host is not None
        assert made.store is not None
        for key in keys_of(made, LONG):
            made.host.drop(key)
        made.ask(LONG, hints=self.turn("a"))
        made.manager.hints.end_session((ROOT, "a"))
        assert where(made, LONG)["l3"] == 5

    def test_sessions_of_other_tenants_are_others(self):
        made = engine()
        made.ask(LONG, hints=self.turn("a"))
        made.manager.hints.end_session((root_key(b"n" * 16, "salt"), "a"))
        assert where(made, LONG) == everywhere(5)

    def test_held_pages_go_when_they_come_free(self):
        made = engine()
        made.ask(LONG, hints=self.turn("a"))
        made.submit("reader", LONG, 20, hints=CacheHints(no_store=True))  # leaves no trace
        made.step(3)
        made.manager.hints.end_session((ROOT, "a"))
        assert where(made, LONG)["l1"] == 4, "the reader holds four"
        assert made.manager.hints.over == 4
        made.run()
        made.step()
        assert made.answers["reader"] == reference_answer(LONG, 20)
        assert where(made, LONG) == everywhere(0)
        assert made.manager.hints.over == 0

    def test_pages_being_written_go_when_that_has_ended(self):
        made = engine(l2=16)  # four pages are written at a time
        made.submit("a", LONG, 2, hints=self.turn("a", end_of_session=True))
        while "a" not in made.finished:
            made.step()  # the disk does not answer
        assert made.store is not None
        assert made.store.open
        assert where(made, LONG)["l2"] == 4
        made.run()
        made.step()
        assert where(made, LONG) == everywhere(0)
        assert made.manager.offloader is not None
        assert made.manager.offloader.unsaved == 0, "a page that was dropped is not missed"

    def test_used_by_another_before_it_could_go_it_stays(self):
        made = engine()
        made.ask(LONG, hints=self.turn("a"))
        made.submit("reader", LONG, 20)
        made.step(3)
        made.manager.hints.end_session((ROOT, "a"))
        made.run()
        made.step()
        assert where(made, LONG)["l1"] >= 4

    def test_the_end_waits_for_the_session_s_other_requests(self):
        made = engine()
        made.submit("long", LONG, 20, hints=self.turn("a"))
        made.step(2)
        assert made.manager.hints.end_session((ROOT, "a")) == (0, True)
        assert where(made, LONG)["l1"] > 0
        made.run()
        made.step()
        assert where(made, LONG) == everywhere(0)

    def test_a_session_that_goes_on_has_not_ended(self):
        made = engine()
        made.submit("first", LONG, 20, hints=self.turn("a"))
        made.step(2)
        made.manager.hints.end_session((ROOT, "a"))
        made.submit("second", LONG, 2, hints=self.turn("a"))
        made.run()
        assert where(made, LONG) == everywhere(5)

    def test_a_session_that_begins_anew_has_its_pages_as_before(self):
        made = engine()
        made.ask(LONG, hints=self.turn("a"))
        made.submit("reader", LONG, 40, hints=CacheHints(no_store=True))
        made.step(3)
        made.manager.hints.end_session((ROOT, "a"))
        made.submit("again", LONG, 2, hints=self.turn("a"))
        made.run()
        assert where(made, LONG) == everywhere(5)
        made.manager.hints.end_session((ROOT, "a"))
        assert where(made, LONG) == everywhere(0)

    def test_requests_leave_nothing_behind_in_the_books(self):
        made = engine()
        for name in "abc":
            made.ask(LONG, hints=self.turn(name, end_of_session=True))
        hints = made.manager.hints
        assert not hints._running
        assert not hints._ending
        assert hints.sessions.pages == 0


class TestTimeToLive:
    def at(self, made: FakeEngine, now: float) -> None:
        made.now = now
        made.step()

    def test_pages_go_when_it_is_over(self):
        made = engine()
        made.ask(LONG, hints=CacheHints(ttl_s=10))
        self.at(made, 9.9)
        assert where(made, LONG) == everywhere(5)
        self.at(made, 10)
        assert where(made, LONG) == everywhere(0)
        assert made.manager.hints.dropped["ttl"] == 5

    def test_it_counts_from_the_last_use(self):
        made = engine()
        made.ask(LONG, hints=CacheHints(ttl_s=10))
        made.now = 8
        made.ask([*LONG[:8], 7], 1, hints=CacheHints(ttl_s=10))
        self.at(made, 17)
        assert where(made, LONG) == everywhere(2)
        self.at(made, 18)
        assert where(made, LONG) == everywhere(0)

    def test_somebody_without_a_ttl_keeps_what_he_used(self):
        made = engine()
        made.ask(LONG, hints=CacheHints(ttl_s=10))
        made.ask([*LONG[:8], 7], 1)
        self.at(made, 1000)
        assert where(made, LONG) == everywhere(2)

    def test_pages_found_are_dropped_as_well(self):
        made = engine()
        made.ask(LONG)
        made.ask(LONG, hints=CacheHints(ttl_s=10))
        self.at(made, 10)
        assert where(made, LONG) == everywhere(0)

    def test_held_pages_are_not_touched(self):
        made = engine()
        made.ask(LONG, hints=CacheHints(ttl_s=10))
        made.submit("reader", LONG, 20, hints=CacheHints(no_store=True))
        made.step(3)
        self.at(made, 20)
        assert where(made, LONG)["l1"] == 4
        made.run()
        made.step()
        assert where(made, LONG) == everywhere(0)


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
