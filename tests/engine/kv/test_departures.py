"""How old pages are that a tier evicts, and which of them come back."""

from __future__ import annotations

from support.fake_tiers import FakeArena

from kvtier_engine.kv.departures import Departures
from kvtier_engine.kv.host import HostTier
from kvtier_engine.kv.pages import PagePool
from kvtier_engine.kv.policy import Lru


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def test_what_comes_back_is_counted_once_for_each_departure() -> None:
    gone = Departures(4, 100.0)
    gone.entered(key(1), 100.0)
    gone.evicted(key(1), 110.0, 130.0)
    assert (gone.count, gone.age_s, gone.returned) == (1, 20.0, 0)
    gone.entered(key(2), 140.0)
    assert gone.returned == 0, "it had never been here"
    gone.entered(key(1), 150.0)
    gone.entered(key(1), 160.0)
    assert (gone.returned, gone.away_s) == (1, 40.0)
    gone.evicted(key(1), 150.0, 170.0)
    gone.entered(key(1), 180.0)
    assert (gone.count, gone.age_s, gone.returned, gone.away_s) == (2, 40.0, 2, 70.0)


def test_a_tier_remembers_four_times_as_many_as_it_has_and_not_all() -> None:
    gone = Departures(8, 0.0)
    for number in range(1, 201):
        gone.evicted(key(number), float(number), float(number))
    for number in range(200, 168, -1):
        gone.entered(key(number), 300.0)
    assert gone.returned == 32
    for number in range(1, 136):
        gone.entered(key(number), 300.0)
    assert gone.returned == 32


def enter_host(host: HostTier, number: int) -> None:
    slot = host.reserve(key(number))
    assert slot is not None
    host.publish(slot, key(number))
    host.unpin(slot)


def test_l2_counts_from_the_last_use() -> None:
    clock = Clock()
    host = HostTier(FakeArena(2), Lru(), clock)  # type: ignore[arg-type]
    for number in (1, 2):
        enter_host(host, number)
    clock.now += 10
    host.touch([key(1)])
    host.reorder([key(2)])
    clock.now += 5
    enter_host(host, 3)
    enter_host(host, 4)
    assert (host.evictions, host.departures.age_s) == (2, 10.0)
    clock.now += 1
    enter_host(host, 1)
    assert (host.departures.returned, host.departures.away_s) == (1, 6.0)
    host.drop(key(1))
    enter_host(host, 1)
    assert host.departures.returned == 1, "what was dropped has not been evicted"


def enter_pool(pool: PagePool, number: int) -> None:
    pages = pool.allocate(1)
    assert pages is not None
    assert pool.publish(pages[0], key(number))
    pool.release(pages)


def test_l1_counts_from_the_last_use() -> None:
    clock = Clock()
    pool = PagePool(2, Lru(), clock)
    for number in (1, 2):
        enter_pool(pool, number)
    clock.now += 10
    pool.touch([key(1)])
    pool.reorder([key(2)])
    clock.now += 5
    enter_pool(pool, 3)
    enter_pool(pool, 4)
    assert (pool.evictions, pool.departures.age_s) == (2, 10.0)
    clock.now += 1
    enter_pool(pool, 1)
    assert (pool.departures.returned, pool.departures.away_s) == (1, 6.0)
