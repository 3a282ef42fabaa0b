"""Tiers resized, detached and attached under an engine over tiers without bytes."""

from __future__ import annotations

from typing import Any

import pytest
from support.engine_process import wait_for
from support.fake_control import TOO_SMALL, FakeControl
from support.fake_engine import FakeEngine, Sizes, page_keys
from support.fake_tiers import reference_answer

from kvtier_engine.core.disk_changes import HANGS_S
from kvtier_engine.core.memory_changes import PATIENCE_S
from kvtier_engine.kv.host import DiskCopy
from kvtier_engine.messages import Attach, Detach, Figures, Pin, Prefix, Resize
from kvtier_engine.runner.step import TierSizes

LONG = list(range(20))  # five pages
OTHER = list(range(20, 44))  # six


def started(**sizes: Any) -> tuple[FakeEngine, FakeControl]:
    sizes = {"l1": 12, "l2": 24, "max_context_tokens": 32, **sizes}
    engine = FakeEngine(Sizes(**sizes))
    return engine, FakeControl(engine)


def tiers_of(engine: FakeEngine, prompt: list[int]) -> list[str]:
    """Where each of the prompt's pages is."""
    tiers = engine.manager.tiers
    assert tiers.host is not None
    on_disk = tiers.on_disk(page_keys(prompt))
    return [
        "1" * (tiers.pool.find(key) is not None)
        + "2" * (tiers.host.find(key) is not None)
        + "3" * there
        for key, there in zip(page_keys(prompt), on_disk, strict=True)
    ]


def check_answers(engine: FakeEngine, *prompts: list[int]) -> None:
    for prompt in prompts:
        engine.ask(prompt, 3)
        assert list(engine.answers.values())[-1] == reference_answer(prompt, 3)


class TestL1:
    def test_gets_smaller_and_larger(self):
        engine, control = started()
        engine.ask(LONG)
        engine.ask(OTHER)
        reply = control.change(Resize("l1", 8))
        assert reply.values == {"tier": "l1", "pages": 8, "bytes": 8}
        assert engine.ranks.sizes == TierSizes(l1_pages=8, l2_slots=24)
        assert engine.pool.found <= 8
        check_answers(engine, OTHER, LONG)
        assert control.change(Resize("l1", 12)).values["pages"] == 12
        assert engine.pool.available == 12
        check_answers(engine, OTHER, LONG)

    def test_waits_for_requests_that_hold_its_pages(self):
        engine, control = started(l1=16)
        engine.submit("running", LONG, 12)
        engine.submit("other", OTHER, 8)
        engine.step(8)
        assert engine.pool.held > 8
        control.begin(Resize("l1", 8))
        control.go_on()
        assert control.replies == []
        assert engine.pool.pages == 8
        assert control.finish().values["pages"] == 8
        engine.run()
        assert engine.answers["running"] == reference_answer(LONG, 12)
        assert engine.answers["other"] == reference_answer(OTHER, 8)

    def test_does_not_hand_on_what_requests_share(self):
        """Or a prompt that is always in use would keep its pages for ever."""
        engine, control = started(l1=16)
        engine.submit("other", OTHER, 3)
        engine.submit("first", LONG, 12)
        engine.step(8)
        control.begin(Resize("l1", 8))
        for turn in range(6):
            engine.submit(f"next {turn}", [*LONG, turn], 3)
            for _ in range(4):
                control.go_on()
        assert control.replies, "pages are handed from one request to the next"
        engine.run()
        for turn in range(6):
            assert engine.answers[f"next {turn}"] == reference_answer([*LONG, turn], 3)

    def test_another_size_takes_the_place_of_one_that_waits(self):
        engine, control = started(l1=16)
        engine.submit("running", LONG, 12)
        engine.submit("other", OTHER, 8)
        engine.step(8)
        control.begin(Resize("l1", 8))
        control.go_on()
        assert "is under way" in str(control.reply(Resize("l2", 20), 1).refused)
        assert control.change(Resize("l1", 16)).values["pages"] == 16
        first = next(reply for reply in control.replies if reply.request_id == "0")
        assert first.refused == "another command for the same tier has taken its place"
        engine.run()
        assert engine.answers["running"] == reference_answer(LONG, 12)

    def test_holds_one_request_at_least(self):
        _, control = started()
        assert "needs 8 pages" in str(control.change(Resize("l1", 7)).refused)

    def test_does_not_outgrow_its_memory(self):
        _, control = started()
        refused = control.change(Resize("l1", 13)).refused
        assert refused is not None
        assert "set `tiers.l1.size` and launch again" in refused


class TestL2:
    def test_the_oldest_pages_leave_and_the_others_stay(self):
        engine, control = started(disk=False)
        engine.ask(LONG)
        engine.ask(OTHER)
        engine.pool.forget()
        reply = control.change(Resize("l2", 6))
        assert reply.values == {"tier": "l2", "pages": 6, "bytes": 6}
        assert engine.arena is not None
        assert engine.arena.populated == 6
        assert max(engine.arena.table) < 6
        assert tiers_of(engine, OTHER) == ["2"] * 6
        assert tiers_of(engine, LONG) == [""] * 5
        hits = engine.manager.restores.pages
        check_answers(engine, [*OTHER, 1])
        assert engine.manager.restores.pages == hits + 6

    def test_what_leaves_goes_to_the_disk_first(self):
        engine, control = started(write="on_evict")
        engine.ask(LONG)
        engine.ask(OTHER)
        assert engine.store is not None
        engine.store.pages.clear()
        control.change(Resize("l2", 6))
        assert engine.host is not None
        assert engine.host.unsaved == 0
        assert all("3" in where for where in tiers_of(engine, LONG))

    def test_does_not_wait_for_a_disk_that_takes_nothing(self):
        engine, control = started(write="on_evict")
        engine.ask(LONG)
        engine.ask(OTHER)
        assert engine.store is not None
        engine.store.pages.clear()
        for page in engine.host._pages.values():  # type: ignore[union-attr]
            page.disk_copy = DiskCopy.NONE
        control.begin(Resize("l2", 6))
        for _ in range(20):
            control.go_on()
        assert control.replies == []
        engine.now += PATIENCE_S + 1
        while engine.store.open:
            control.go_on()
            engine.store.end_one()
        for _ in range(20):
            control.go_on()
        assert control.replies[0].values["pages"] == 6
        check_answers(engine, LONG, OTHER)

    def test_is_back_at_its_size(self):
        engine, control = started(disk=False)
        control.change(Resize("l2", 6))
        control.change(Resize("l2", 24))
        assert engine.arena is not None
        assert engine.arena.populated == 24
        engine.ask(LONG)
        engine.ask(OTHER)
        assert tiers_of(engine, LONG) == ["12"] * 5
        assert tiers_of(engine, OTHER) == ["12"] * 6

    def test_does_not_take_memory_that_the_host_has_not(self):
        _, control = started()
        control.change(Resize("l2", 6))
        control.memory.reason = "there is no room"
        assert control.change(Resize("l2", 7)).refused == "there is no room"
        assert control.change(Resize("l2", 5)).values["pages"] == 5

    def test_pages_move_unchecked_as_they_were(self):
        first, _ = started(disk=False)
        first.ask(LONG)
        first.ask(OTHER)
        assert first.arena is not None
        second = FakeEngine(Sizes(l1=12, l2=24, disk=False, max_context_tokens=32), first.arena)
        control = FakeControl(second)
        assert second.host is not None
        bad = second.host.page(page_keys(OTHER)[-1])
        assert bad is not None
        first.arena.bad.add(bad.slot)
        control.change(Resize("l2", 6))
        assert second.host.held == 6
        assert tiers_of(second, OTHER) == ["2"] * 5 + [""]
        assert second.host.corrupt == 1

    def test_pinned_pages_stay(self):
        engine, control = started(disk=False)
        engine.ask(LONG)
        assert control.ask(Pin(Prefix(token_ids=LONG)))["pinned"]
        engine.ask(OTHER)
        assert "5 pages are pinned" in str(control.change(Resize("l2", 19)).refused)
        control.change(Resize("l2", 20))
        assert tiers_of(engine, LONG) == ["12"] * 5

    def test_detached_it_gives_everything_back(self):
        engine, control = started(disk=False)
        engine.ask(LONG)
        assert control.change(Detach("l2")).values == {"tier": "l2", "pages": 0, "bytes": 0}
        assert engine.arena is not None
        assert engine.arena.populated == 0
        check_answers(engine, LONG, OTHER)
        assert "detached already" in str(control.change(Detach("l2")).refused)
        assert "attach it" in str(control.change(Resize("l2", 6)).refused)
        assert control.change(Attach("l2")).values["pages"] == 24
        check_answers(engine, LONG, [9, *OTHER])
        assert tiers_of(engine, [9, *OTHER]) == ["12"] * 6
        assert "attached already" in str(control.change(Attach("l2")).refused)

    def test_the_disk_has_to_go_before_it(self):
        _, control = started()
        assert "detach l3 first" in str(control.change(Detach("l2")).refused)
        control.change(Detach("l3"))
        control.change(Detach("l2"))
        assert "attach l2" in str(control.change(Attach("l3")).refused)

    def test_sizes_that_cannot_be(self):
        _, control = started()
        assert "hold no page" in str(control.change(Resize("l2", 0)).refused)
        assert "`tiers.l2.size`" in str(control.change(Resize("l2", 25)).refused)
        _, without = started(l2=0, disk=False)
        assert "there is no l2" in str(without.change(Resize("l2", 5)).refused)
        assert "there is no l2" in str(without.change(Attach("l2")).refused)


class TestL3:
    def test_detached_its_pages_are_misses_and_attached_they_are_hits(self):
        engine, control = started()
        engine.ask(LONG)
        assert control.change(Detach("l3")).values == {"tier": "l3", "pages": 0, "bytes": 0}
        assert engine.manager.disk is None
        assert tiers_of(engine, LONG) == ["12"] * 5
        engine.pool.forget()
        engine.manager.tiers.clear("l2")
        check_answers(engine, LONG, OTHER)
        assert "detached already" in str(control.change(Detach("l3")).refused)
        assert control.change(Attach("l3")).values["pages"] == 100
        assert all("3" in where for where in tiers_of(engine, LONG))
        engine.pool.forget()
        engine.manager.tiers.clear("l2")
        assert engine.ask([*LONG, 1]).cached.l3 == 20  # type: ignore[union-attr]

    def test_what_came_while_it_was_away_reaches_it(self):
        engine, control = started()
        control.change(Detach("l3"))
        engine.ask(LONG)
        assert engine.store is not None
        assert not engine.store.pages
        control.change(Attach("l3"))
        engine.run()
        assert tiers_of(engine, LONG) == ["123"] * 5

    def test_a_request_that_waits_for_it_goes_on_without(self):
        engine, control = started()
        engine.ask(LONG)
        engine.pool.forget()
        engine.manager.tiers.clear("l2")
        engine.submit("waits", [*LONG, 1], 3)
        engine.step()
        assert engine.store is not None
        assert engine.store.open
        control.begin(Detach("l3"))
        control.go_on()
        assert engine.manager.l3.leaving is not None
        assert control.replies == []
        assert control.finish().values["pages"] == 0
        engine.run()
        assert engine.answers["waits"] == reference_answer([*LONG, 1], 3)

    def test_pages_being_written_keep_their_slots_until_they_are(self):
        engine, control = started()
        engine.submit("writes", LONG, 3)
        for _ in range(30):
            engine.step_once()
        assert engine.store is not None
        assert engine.store.open
        control.begin(Detach("l3"))
        control.go_on()
        assert engine.host is not None
        assert engine.host.pinned > 0
        while engine.store.open:
            engine.store.end_one()
        control.go_on()
        assert engine.host.pinned == 0
        assert {page.disk_copy for _, page in engine.host.pages()} == {DiskCopy.UNWANTED}

    def test_one_that_hangs_is_left_behind_and_closed_when_it_has_ended(self):
        engine, control = started()
        engine.submit("writes", LONG, 3)
        for _ in range(30):
            engine.step_once()
        control.begin(Detach("l3"))
        control.go_on()
        engine.now += HANGS_S + 1
        control.go_on()
        assert "hang: its directories are given back when they end" in str(
            control.replies[0].refused
        )
        assert "hangs still" in str(control.change(Attach("l3")).refused)
        assert "detach l3 first" in str(control.change(Detach("l2")).refused)
        assert control.change(Resize("l2", 20)).values["pages"] == 20
        wait_for(lambda: control.change(Attach("l3")).refused is None, "the disk to be closed")
        check_answers(engine, LONG, OTHER)

    def test_another_size_is_an_opening_anew(self):
        engine, control = started()
        engine.ask(LONG)
        assert control.change(Resize("l3", 50)).values["pages"] == 100
        assert control.opener.capacities == [50]
        assert engine.manager.disk is not None
        assert "too few" in str(control.change(Resize("l3", 0)).refused)
        control.change(Detach("l3"))
        assert "attach it" in str(control.change(Resize("l3", 9)).refused)
        control.change(Attach("l3", 70))
        assert control.opener.capacities == [70]
        assert "attached already" in str(control.change(Attach("l3")).refused)

    def test_one_that_does_not_open_can_be_attached_later(self):
        engine, control = started()
        engine.ask(LONG)
        refused = control.change(Resize("l3", TOO_SMALL)).refused
        assert refused == "too small; l3 has the size that it had"
        assert engine.manager.disk is not None
        control.opener.error = "the disk is gone"
        refused = control.change(Resize("l3", 50)).refused
        assert refused == "the disk is gone; l3 is out of use until it can be attached"
        check_answers(engine, LONG, OTHER)
        control.opener.error = ""
        control.change(Attach("l3"))
        assert engine.manager.disk is not None

    def test_pinned_pages_are_pinned_in_it_again(self):
        engine, control = started()
        engine.ask(LONG)
        control.ask(Pin(Prefix(token_ids=LONG)))
        assert engine.store is not None
        control.change(Detach("l3"))
        engine.store.pins.clear()
        control.change(Attach("l3"))
        assert set(engine.store.pins) == set(page_keys(LONG))

    def test_without_directories_there_is_nothing_to_attach(self):
        _, control = started(disk=False)
        assert "`tiers.l3.directories`" in str(control.change(Attach("l3")).refused)


def test_one_change_at_a_time():
    engine, control = started(l1=16)
    engine.submit("running", LONG, 12)
    engine.submit("other", OTHER, 8)
    engine.step(8)
    control.begin(Resize("l1", 8))
    control.begin(Figures())
    assert control.replies[-1].values["under_way"] == "resize l1"
    assert "resize l1 is under way" in str(control.reply(Detach("l3"), 1).refused)
    wait_for(lambda: control.go_on_until("0"), "the first change")
    assert control.ask(Figures())["under_way"] is None


@pytest.mark.parametrize("command", [Resize("l2", 6), Resize("l1", 8), Detach("l3")])
def test_a_fault_of_ours_ends_the_change_alone(command, monkeypatch):
    engine, control = started()

    def fail(*args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(engine.scheduler, "tell_sizes", fail)
    monkeypatch.setattr(engine.store, "close", fail)
    assert "a bug" in str(control.change(command).failed)
    check_answers(engine, LONG)
    assert control.ask(Figures())["under_way"] is None
