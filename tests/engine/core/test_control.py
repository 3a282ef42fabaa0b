"""An operator's commands on a whole engine over tiers without bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.fake_control import FakeControl
from support.fake_engine import FakeEngine, Sizes
from support.fake_tiers import reference_answer

from kvtier_engine.kv.tenants import Tenants
from kvtier_engine.messages import (
    CachedTokens,
    CacheHints,
    Clear,
    EndSession,
    Figures,
    LookUp,
    Pin,
    Prefix,
    Unpin,
    Warm,
)
from kvtier_store import Status, StoreError

LONG = list(range(20))  # five pages


def prefix(tokens: list[int] = LONG, **whose: str) -> Prefix:
    return Prefix(token_ids=tokens, **whose)


def started(**sizes: Any) -> tuple[FakeEngine, FakeControl]:
    engine = FakeEngine(Sizes(**{"l1": 12, "l2": 24, **sizes}))
    return engine, FakeControl(engine)


def with_only_the_disk(**sizes: Any) -> tuple[FakeEngine, FakeControl]:
    first, _ = started()
    first.ask(LONG)
    second, control = started(**sizes)
    assert first.store is not None
    assert second.store is not None
    second.store.pages = first.store.pages
    return second, control


def pages(values: dict[str, Any]) -> tuple[int, int, int]:
    return tuple(values["tiers"][tier]["pages"] for tier in ("l1", "l2", "l3"))  # type: ignore[return-value]


class TestLookUp:
    def test_tells_the_pages_of_every_tier(self):
        engine, control = started()
        assert pages(control.ask(LookUp(prefix()))) == (0, 0, 0)
        engine.ask(LONG)
        values = control.ask(LookUp(prefix([*LONG, 1])))
        assert pages(values) == (5, 5, 5)
        assert (values["prompt_tokens"], values["cached_pages"], values["cached_tokens"]) == (
            21,
            5,
            20,
        )
        engine.pool.forget()
        assert pages(control.ask(LookUp(prefix()))) == (0, 5, 5)

    def test_counts_up_to_the_first_page_that_is_nowhere(self):
        engine, control = started(disk=False)
        engine.ask(LONG)
        engine.pool.forget()
        assert engine.host is not None
        keys = engine.manager.new_sequence(engine.scheduler.tenants.root("", "")).chain
        keys.extend(LONG)
        engine.host.drop(keys.keys[2])
        values = control.ask(LookUp(prefix()))
        assert pages(values) == (0, 2, 0)
        assert values["cached_tokens"] == 8

    def test_does_not_use_what_it_sees(self):
        engine, control = started(l1=4, l2=0, disk=False)
        engine.ask([1] * 5, 1)
        engine.ask([2] * 5, 1)
        control.ask(LookUp(prefix([1] * 5)))
        engine.ask([3] * 9, 1)
        assert engine.ask([2] * 5, 1).cached == CachedTokens(l1=4)

    def test_tenants_and_salts_are_apart(self):
        engine, control = started()
        engine.ask(LONG, tenant="a", salt="s")
        assert pages(control.ask(LookUp(prefix(tenant="a", salt="s")))) == (5, 5, 5)
        for whose in ({}, {"tenant": "a"}, {"salt": "s"}, {"tenant": "s", "salt": "a"}):
            assert pages(control.ask(LookUp(prefix(**whose)))) == (0, 0, 0)


class TestWarm:
    def test_to_l2(self):
        engine, control = with_only_the_disk()
        values = control.ask(Warm(prefix(), "l2"))
        assert values == {"tier": "l2", "pages": 5, "tokens": 20}
        assert pages(control.ask(LookUp(prefix()))) == (0, 5, 5)
        assert engine.scheduler.counters.requests == 0
        assert engine.ask(LONG).cached == CachedTokens(l2=16)

    def test_to_l1(self):
        engine, control = with_only_the_disk()
        values = control.ask(Warm(prefix(), "l1"))
        assert values == {"tier": "l1", "pages": 5, "tokens": 20}
        assert engine.ranks.computed == 1
        assert engine.ask([*LONG, 1]).cached == CachedTokens(l1=20)
        assert engine.answers["ask-0"] == reference_answer([*LONG, 1], 3)
        assert control.ask(Warm(prefix(), "l1"))["tokens"] == 20
        assert engine.scheduler.counters.requests == 2, "what is there needs no request"

    def test_more_than_waiting_requests_may_pin_at_once(self):
        _, control = with_only_the_disk(l2=8)  # of which four may be pinned
        assert control.ask(Warm(prefix(), "l2"))["tokens"] == 20

    def test_more_than_l2_holds(self):
        first, _ = started(l1=30, l2=30)
        first.ask([*LONG, *LONG, *LONG])
        engine, control = started(l2=6)
        assert engine.store is not None
        assert first.store is not None
        engine.store.pages = first.store.pages
        values = control.ask(Warm(prefix([*LONG, *LONG, *LONG]), "l2"))
        assert values["tokens"] == 16, "three quarters of L2"
        assert engine.host is not None
        assert engine.host.pinned == 0

    def test_what_is_nowhere_is_not_computed(self):
        engine, control = started()
        for tier in ("l1", "l2"):
            assert control.ask(Warm(prefix(), tier)) == {"tier": tier, "pages": 0, "tokens": 0}
        assert control.ask(Warm(prefix([1]), "l1"))["tokens"] == 0
        assert engine.ranks.computed == 0

    def test_a_page_that_the_disk_fails_on_ends_it(self):
        engine, control = with_only_the_disk()
        control.begin(Warm(prefix(), "l2"))
        control.go_on()
        assert engine.store is not None
        engine.store.end_one()
        engine.store.end_one(Status.IO_ERROR)
        while engine.store.open:
            engine.store.end_one()
        for _ in range(5):
            control.go_on()
            while engine.store.open:  # it tries the page once more
                engine.store.end_one(Status.IO_ERROR)
        assert [reply.values["tokens"] for reply in control.replies] == [4]
        engine.run()

    def test_a_disk_that_hangs_does_not_hold_the_answer_for_ever(self):
        engine, control = with_only_the_disk()
        control.begin(Warm(prefix(), "l2"))
        control.go_on()
        assert control.replies == []
        engine.now += 11
        control.go_on()
        assert [reply.values["tokens"] for reply in control.replies] == [0]

    def test_without_lower_tiers(self):
        engine, control = started(l2=0, disk=False)
        engine.ask(LONG)
        assert control.ask(Warm(prefix(), "l2"))["tokens"] == 20, "L1 is higher than asked for"


class TestPins:
    def test_brings_pages_to_l2_and_keeps_them(self):
        engine, control = with_only_the_disk()
        expected = {"pinned": True, "reason": None, "pages": 5, "tokens": 20}
        assert control.ask(Pin(prefix())) == expected
        assert control.ask(LookUp(prefix()))["pinned_pages"] == 5
        for salt in range(30):
            engine.ask([30 + salt, *LONG], 1)
        assert pages(control.ask(LookUp(prefix())))[1:] == (5, 5)
        assert control.ask(Unpin(prefix())) == {"unpinned_pages": 5}
        assert control.ask(Unpin(prefix())) == {"unpinned_pages": 0}

    def test_pages_in_l1_alone_come_down(self):
        engine, control = started(disk=False)
        engine.ask(LONG)
        assert engine.host is not None
        engine.host.clear()
        assert pages(control.ask(LookUp(prefix()))) == (5, 0, 0)
        assert control.ask(Pin(prefix()))["pinned"]
        assert pages(control.ask(LookUp(prefix()))) == (5, 5, 0)

    def test_refused_beyond_a_quarter_of_l2(self):
        engine, control = started(l2=16)
        engine.ask(LONG)
        values = control.ask(Pin(prefix()))
        assert (values["pinned"], values["tokens"]) == (False, 0)
        assert "at most 4" in values["reason"]
        assert control.ask(Figures())["hints"]["pinned_pages"] == 0

    def test_all_can_be_unpinned(self):
        engine, control = started()
        engine.ask([9] * 8, 1, hints=CacheHints(pin=True))
        engine.ask([8] * 8, 1, hints=CacheHints(pin=True), tenant="a")
        assert control.ask(Unpin(None)) == {"unpinned_pages": 4}


class TestEndSession:
    def test_drops_the_session_s_own(self):
        engine, control = started()
        engine.ask(LONG, hints=CacheHints(session="s"), tenant="a")
        expected = {"dropped_pages": 0, "waits_for_requests": False}
        assert control.ask(EndSession("s")) == expected
        expected["dropped_pages"] = 5
        assert control.ask(EndSession("s", "a")) == expected
        assert pages(control.ask(LookUp(prefix(tenant="a")))) == (0, 0, 0)

    def test_waits_for_its_requests(self):
        engine, control = started()
        engine.submit("a", LONG, 20, hints=CacheHints(session="s"))
        engine.step(2)
        control.begin(EndSession("s"))
        assert control.replies[-1].values["waits_for_requests"]
        engine.run()
        engine.step()
        assert pages(control.ask(LookUp(prefix()))) == (0, 0, 0)


class TestClear:
    @pytest.mark.parametrize(
        ("tiers", "left"),
        [
            (["l1"], (0, 5, 5)),
            (["l2"], (5, 0, 5)),
            (["l3"], (5, 5, 0)),
            (["l2", "l1", "l3"], (0, 0, 0)),
        ],
    )
    def test_by_tier(self, tiers, left):
        engine, control = started()
        engine.ask(LONG)
        values = control.ask(Clear(tiers))
        assert values["dropped_pages"] == dict.fromkeys(tiers, 5)
        assert values["left_pages"] == dict.fromkeys(tiers, 0)
        assert pages(control.ask(LookUp(prefix()))) == left
        engine.ask(LONG)
        assert engine.answers["ask-1"] == reference_answer(LONG, 3)

    def test_while_requests_run(self):
        engine, control = started(offload_delay=2)
        engine.submit("a", LONG, 20)
        for _ in range(8):  # the disk does not answer: slots that it writes from are left
            engine.step()
            control.begin(Clear(["l2", "l1", "l3"]))
        left = control.replies[-1].values["left_pages"]
        assert left["l2"] > 0
        assert left["l3"] > 0
        engine.run()
        assert engine.answers["a"] == reference_answer(LONG, 20)
        control.ask(Clear(["l2", "l1", "l3"]))
        assert engine.ask(LONG).cached == CachedTokens()

    def test_pins_go_with_their_tier(self):
        for tiers, pinned in ((["l1"], 2), (["l2"], 0), (["l3"], 0)):
            engine, control = started()
            engine.ask([9] * 8, 1, hints=CacheHints(pin=True))
            control.ask(Clear(tiers))
            assert control.ask(Figures())["hints"]["pinned_pages"] == pinned

    def test_a_disk_out_of_use_is_a_refusal(self, monkeypatch):
        engine, control = started()
        assert engine.store is not None

        def fail() -> int:
            raise StoreError("/disk is out of use")

        monkeypatch.setattr(engine.store, "clear", fail)
        assert control.reply(Clear(["l3"])).refused == "/disk is out of use"

    def test_a_bug_fails_the_command_alone(self, monkeypatch):
        engine, control = started()
        monkeypatch.setattr(engine.pool, "forget", lambda: 1 // 0)
        assert "ZeroDivisionError" in str(control.reply(Clear(["l1"])).failed)
        assert engine.ask(LONG).cached == CachedTokens()


class TestTenants:
    def engine(self, folder: Path | None, **sizes: Any) -> tuple[FakeEngine, FakeControl]:
        engine, control = started(**sizes)
        engine.scheduler.tenants = Tenants(b"n" * 16, folder)
        return engine, control

    def test_no_page_of_a_cleared_tenant_is_found_again(self, tmp_path):
        engine, control = self.engine(tmp_path / "state")
        for tenant in ("a", "b", ""):
            for salt in ("", "s"):
                engine.ask(LONG, tenant=tenant, salt=salt)
        assert control.ask(Clear([], "a")) == {"tenant": "a", "generation": 1}
        for salt in ("", "s"):
            assert engine.ask(LONG, tenant="a", salt=salt).cached == CachedTokens()
            for tenant in ("b", ""):
                assert engine.ask(LONG, tenant=tenant, salt=salt).cached.total == 16  # type: ignore[union-attr]

    def test_nor_after_a_restart(self, tmp_path):
        first, control = self.engine(tmp_path)
        first.ask(LONG, tenant="a")
        first.ask(LONG, tenant="b")
        control.ask(Clear([], "a"))
        second, _ = self.engine(tmp_path)
        assert first.store is not None
        assert second.store is not None
        second.store.pages = first.store.pages
        assert second.ask(LONG, tenant="a").cached == CachedTokens()
        assert second.ask(LONG, tenant="b").cached == CachedTokens(l3=16)

    def test_its_pins_go_as_well(self, tmp_path):
        engine, control = self.engine(tmp_path)
        engine.ask([9] * 8, 1, tenant="a", hints=CacheHints(pin=True))
        engine.ask([9] * 8, 1, tenant="b", hints=CacheHints(pin=True))
        control.ask(Clear([], "a"))
        assert control.ask(Figures())["hints"]["pinned_pages"] == 2

    def test_what_cannot_be_remembered_is_not_done(self, tmp_path):
        (tmp_path / "file").touch()
        for folder, words in ((None, "state_dir"), (tmp_path / "file" / "x", "cannot write")):
            engine, control = self.engine(folder)
            engine.ask(LONG, tenant="a")
            assert words in str(control.reply(Clear([], "a")).refused)
            assert engine.ask(LONG, tenant="a").cached == CachedTokens(l1=16)


def test_figures():
    engine, control = started()
    engine.ask(LONG, hints=CacheHints(session="s", ttl_s=5, pin=True))
    values = control.ask(Figures())
    assert values["tiers"] == {
        "l1": {"capacity_pages": 12, "cached_pages": 5},
        "l2": {"capacity_pages": 24, "cached_pages": 5},
        "l3": {"capacity_pages": 100, "cached_pages": 5},
    }
    hints = values["hints"]
    assert (hints["sessions"], hints["session_pages"], hints["ttl_pages"]) == (1, 5, 5)
    assert (hints["pinned_pages"], hints["pinned_pages_max"]) == (5, 6)
    _, alone = started(l2=0, disk=False)
    assert alone.ask(Figures())["tiers"]["l3"] == {"capacity_pages": 0, "cached_pages": 0}
