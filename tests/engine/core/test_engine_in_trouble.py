"""Scheduler and cache manager in trouble: disks that hang or refuse, memory that runs out."""

from support.fake_engine import FakeEngine, Sizes, page_keys
from support.fake_tiers import FakeStore, reference_answer

from kvtier_engine.messages import CachedTokens
from kvtier_store import Status

LONG = list(range(20))  # five pages; the last is computed anyway, for its logits


def warm(sizes: Sizes | None = None) -> tuple[FakeEngine, FakeStore]:
    """An engine that finds the prompt LONG on its disk, and the disk."""
    first = FakeEngine()
    first.ask(LONG)
    engine = FakeEngine(sizes or Sizes())
    assert first.store is not None
    assert engine.store is not None
    engine.store.pages = first.store.pages
    return engine, engine.store


def test_a_hung_read_is_given_up_and_its_memory_kept():
    engine, store = warm()
    engine.submit("a", LONG, 3)
    engine.step(50)
    assert engine.answers["a"] == []
    engine.now += 11
    engine.step(20)
    assert engine.answers["a"] == reference_answer(LONG, 3)
    engine.submit("b", [*LONG, 1], 1)  # finds everything in L1, and joins no hung read
    engine.step(20)
    assert "b" in engine.finished
    assert engine.host is not None
    assert engine.host.pinned >= len(store.open), "memory that the disk may still write to"
    engine.run()
    assert engine.host.pinned == 0


def test_reads_that_hang_do_not_hold_up_those_who_need_no_disk():
    stuck = 20
    first = FakeEngine(Sizes(l1=40, l2=200))
    for name in range(stuck):
        first.ask([100 + name] * 5, 1)
    engine = FakeEngine(Sizes(l2=200))
    assert first.store is not None
    assert engine.store is not None
    engine.store.pages = first.store.pages
    for name in range(stuck):
        engine.submit(f"stuck-{name}", [100 + name] * 5, 1)
    engine.submit("quick", [9, 9], 2)
    engine.step(10)
    assert "quick" in engine.finished
    engine.run()


def test_pages_that_l1_loses_while_a_request_waits_come_from_disk():
    engine = FakeEngine(Sizes(l1=12, l2=8, max_running=1))
    engine.ask(LONG, 1)
    engine.submit("long", [9] * 5, 40)  # pushes everything out of L1 and L2
    engine.step()
    engine.submit("waits", LONG, 1)
    engine.run()
    assert engine.answers["waits"] == reference_answer(LONG, 1)
    cached = engine.outputs["waits"][0].cached
    assert cached is not None
    assert cached.total == 16
    assert cached.l3 >= 12  # its first page may have stayed in L1


def test_waiting_requests_leave_half_of_l2_to_offloads():
    engine = FakeEngine(Sizes(l1=12, l2=16, disk=False, max_running=1))
    for name in range(4):
        engine.ask([100 + name] * 4 + LONG[:9], 1)  # three full pages each
    engine.pool.forget()
    engine.submit("running", [9] * 5, 30)
    engine.step()
    for name in range(4):
        engine.submit(f"waits-{name}", [100 + name] * 4 + LONG[:9], 1)
    engine.step()
    assert engine.host is not None
    assert engine.host.pinned == 8
    engine.run()
    assert engine.manager.offloader is not None
    assert engine.manager.offloader.skipped == 0


def test_hits_of_preempted_sequences_are_not_counted_again():
    engine = FakeEngine(Sizes(l1=12, l2=40))
    for name in "abc":
        engine.submit(name, [ord(name), *LONG[:11]], 24)
    engine.run()
    assert engine.scheduler.counters.preemptions > 0
    assert engine.scheduler.counters.hit_tokens == [0, 0, 0]
    assert engine.scheduler.counters.prompt_tokens == 36


def test_a_page_that_the_disk_refuses_is_offered_again_later():
    engine = FakeEngine()
    store, saver = engine.store, engine.manager.saver
    assert store is not None
    assert saver is not None
    engine.submit("a", LONG, 1)
    while not store.open:
        engine.step()
    refused = len(store.open)
    for _ in range(refused):
        store.end_one(Status.DROPPED)
    engine.step(5)
    assert saver.refused == refused
    assert not store.open
    assert engine.manager.idle  # a disk that is full keeps nobody from stopping
    engine.now += 6
    engine.run()
    assert len(store.pages) == 5


def test_a_page_that_is_used_while_it_is_being_saved_is_saved_once():
    """It was not admitted, left L2, and was computed again: its first life must not count."""
    engine = FakeEngine(Sizes(l1=12, l2=8))
    store = engine.store
    assert store is not None
    store.sightings_min = 2
    engine.ask(LONG)
    engine.ask([9] * 24)  # pushes the last three of its five pages out of L2
    engine.pool.forget()
    engine.submit("again", LONG, 1)
    page = page_keys(LONG)[3]
    while not store.is_being_written(page):
        store.end_one()
        engine.step()
    engine.submit("meanwhile", LONG, 1)
    engine.step(10)
    assert "meanwhile" in engine.finished
    while len(store.open) > 1:  # the disk ends all others before it
        store.open.rotate(-1) if store.open[0].key == page else store.end_one()
    engine.step(3)
    engine.run()
    offered = [put.key for put in store.offered]
    assert offered.count(page) == 2, "once in each of its two lives in L2"


def test_a_slow_disk_pins_a_quarter_of_l2_at_most():
    engine = FakeEngine(Sizes(l1=40, l2=16))
    engine.submit("a", list(range(60)), 1)
    engine.step(10)
    assert engine.host is not None
    assert engine.host.pinned == 4


def test_a_slot_that_is_being_restored_is_not_given_to_an_offload():
    """L2 has three slots: two are restored in a step whose offload needs a third and a fourth."""
    engine = FakeEngine(Sizes(l1=12, l2=3, disk=False, max_step_tokens=16))
    engine.ask(LONG[:9], 1)
    engine.pool.forget()
    engine.submit("a", LONG, 3)
    engine.run()
    assert engine.outputs["a"][0].cached == CachedTokens(l2=8)
    assert engine.answers["a"] == reference_answer(LONG, 3)
