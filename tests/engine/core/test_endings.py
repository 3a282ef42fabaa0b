"""Sessions that end and times that run out, on a whole engine over tiers without bytes."""

from __future__ import annotations

from typing import Any

from support.fake_engine import FakeEngine
from support.fake_tiers import reference_answer
from support.places import LONG, ROOT, engine, everywhere, keys_of, where

from kvtier_engine.kv.keys import root_key
from kvtier_engine.messages import CacheHints


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
        assert made.host is not None
        assert made.host.unsaved == 0, "a page that was dropped is not missed"

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
