"""L1 and L2 resized, L2 detached and attached under an engine over tiers without bytes."""

from __future__ import annotations

from support.changing import LONG, OTHER, check_answers, started, tiers_of
from support.fake_control import FakeControl
from support.fake_engine import FakeEngine, Sizes, page_keys
from support.fake_tiers import reference_answer

from kvtier_engine.core import memory_changes
from kvtier_engine.core.memory_changes import PATIENCE_S
from kvtier_engine.core.memory_room import Room
from kvtier_engine.kv.host import DiskCopy
from kvtier_engine.messages import Attach, Detach, Pin, Prefix, Resize
from kvtier_engine.runner.step import TierSizes


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

    def test_does_not_take_memory_that_the_host_has_not(self, monkeypatch):
        _, control = started()
        control.change(Resize("l1", 8))
        rooms = [Room(1 << 40, "one"), Room(3, "another")]
        monkeypatch.setattr(memory_changes, "memory_rooms", lambda root: rooms)
        assert "another leaves 3" in str(control.change(Resize("l1", 12)).refused)
        assert control.change(Resize("l1", 11)).values["pages"] == 11

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

    def test_a_disk_that_takes_nothing_is_waited_for_once(self):
        """Not once for every few pages."""
        engine, control = started(write="on_evict")
        control.memory_changes._config.cache.page_bytes = 16 << 20  # one page a round
        control.memory.page_bytes = 16 << 20
        engine.ask(LONG)
        engine.ask(OTHER)
        engine.store.pages.clear()  # type: ignore[union-attr]
        for page in engine.host._pages.values():  # type: ignore[union-attr]
            page.disk_copy = DiskCopy.NONE
        control.begin(Resize("l2", 2 * (16 << 20)))
        control.go_on()
        engine.now += PATIENCE_S + 1
        for _ in range(40):
            control.go_on()
        assert [page.disk_copy for _, page in engine.host.pages()] in (  # type: ignore[union-attr]
            [DiskCopy.SAVING, DiskCopy.NONE],
            [DiskCopy.NONE, DiskCopy.SAVING],
            [DiskCopy.SAVING] * 2,
        )

    def test_pages_being_saved_are_in_nobody_s_way(self):
        engine, control = started(write="on_evict")
        engine.ask(LONG)
        engine.ask(OTHER)
        host = engine.host
        assert host is not None
        for page in host._pages.values():
            page.disk_copy = DiskCopy.UNWANTED
        for key in host.oldest(3):
            found = host.page(key)
            assert found is not None
            found.disk_copy = DiskCopy.SAVING
            host.pin(found.slot)
        control.memory_changes._config.cache.page_bytes = 16 << 20  # one page a round
        control.memory.page_bytes = 16 << 20
        control.begin(Resize("l2", 4 * (16 << 20)))
        for _ in range(40):
            control.desk.go_on()
        assert host.held == 4

    def test_a_larger_size_that_takes_the_place_of_one_that_waits_frees_memory_too(self):
        engine, control = started(disk=False)
        engine.ask(LONG)
        engine.ask(OTHER)
        host = engine.host
        assert host is not None
        last = max(host._key_of)
        host.pin(last)  # somebody reads it
        control.begin(Resize("l2", 4))
        control.desk.go_on()
        control.begin(Resize("l2", 8))
        for _ in range(5):
            control.desk.go_on()
        assert len(control.replies) == 1
        host.unpin(last)
        assert control.finish().values["pages"] == 8
        assert host.outside == 0
        assert engine.arena is not None
        assert engine.arena.populated == 8

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
