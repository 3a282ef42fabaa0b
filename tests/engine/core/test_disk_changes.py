"""L3 detached, attached and opened anew under an engine over tiers without bytes; what holds for
every change."""

from __future__ import annotations

import pytest
from support.changing import LONG, OTHER, check_answers, started, tiers_of
from support.engine_process import wait_for
from support.fake_control import TOO_SMALL
from support.fake_engine import page_keys
from support.fake_tiers import reference_answer

from kvtier_engine.core.disk_changes import HANGS_S
from kvtier_engine.kv.host import DiskCopy
from kvtier_engine.messages import Attach, Clear, Detach, Figures, Pin, Prefix, Resize


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

    def test_what_is_detached_cannot_be_cleared(self):
        engine, control = started()
        engine.ask(LONG)
        control.change(Detach("l3"))
        assert "its pages come back with it" in str(control.reply(Clear(["l3"])).refused)
        assert control.ask(Clear(["l1"]))
        control.change(Attach("l3"))
        assert control.ask(Clear(["l3"]))["dropped_pages"]["l3"] > 0

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
