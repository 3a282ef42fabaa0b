"""What the operator hears of disks, and the figures of each."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support.fake_engine import FakeEngine
from support.store_client import open_store, put_all

from kvtier_engine.core import stats as core_stats
from kvtier_engine.core.disk_watch import CALM_S, DiskWatch
from kvtier_engine.kv.disk import DiskTier
from kvtier_store import StoreStats


class Directory:
    def __init__(self, path: str, reason: str = "") -> None:
        self.path, self.out_of_use_reason = path, reason


class Stats:
    def __init__(self, *directories: Directory, dropped_writes: int = 0) -> None:
        self.directories, self.dropped_writes = directories, dropped_writes


def look(watch: DiskWatch, *directories: Directory, dropped: int = 0) -> None:
    stats: StoreStats = Stats(*directories, dropped_writes=dropped)  # type: ignore[assignment]
    watch.look(stats)


def test_a_disk_that_goes_and_comes_back_is_told_of_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    watch = DiskWatch()
    look(watch, Directory("/a"), Directory("/b"))
    assert caplog.messages == []
    for _ in range(3):
        look(watch, Directory("/a"), Directory("/b", "writes of /b are out of use: dead"))
    assert len(caplog.messages) == 1
    assert "writes of /b are out of use: dead" in caplog.messages[0]
    for _ in range(3):
        look(watch, Directory("/a"), Directory("/b"))
    assert caplog.messages[1:] == ["L3: /b is in use again"]


def test_why_and_since_when_a_disk_is_out_of_use() -> None:
    times = iter((100.0, 200.0, 300.0))
    watch = DiskWatch(lambda: next(times))
    look(watch, Directory("/a", "reads"))
    look(watch, Directory("/a", 'reads and "writes"'), Directory("/b", "gone"))
    found = watch.out_of_use()
    assert found == {"/a": ('reads and "writes"', 100.0), "/b": ("gone", 200.0)}
    name = 'l3_out_of_use_since_seconds{directory="/a",reason="reads and \\"writes\\""}'
    assert core_stats.out_of_use(found)[name] == 100.0
    look(watch, Directory("/a"), Directory("/b", "gone"))
    assert watch.out_of_use() == {"/b": ("gone", 200.0)}
    look(watch, Directory("/a", "again"))
    assert watch.out_of_use()["/a"] == ("again", 300.0)


def test_writes_that_are_dropped_are_told_of_once_and_counted_at_their_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now = 1000.0
    watch = DiskWatch(lambda: now)
    look(watch, dropped=0)
    for dropped in (3, 3, 8, 8):
        look(watch, dropped=dropped)
        now += CALM_S
    [message] = caplog.messages
    assert message.startswith("L3: pages are not written: the file system is full but for ")
    now += 1
    for _ in range(2):
        look(watch, dropped=8)
    assert caplog.messages[1:] == ["L3: pages are written again; 8 were not"]
    look(watch, dropped=10)  # and they begin anew
    now += CALM_S + 1
    look(watch, dropped=10)
    assert caplog.messages[-1] == "L3: pages are written again; 2 were not"
    look(watch, dropped=0)  # of a store that was opened since
    assert len(caplog.messages) == 4


def test_writes_to_a_disk_that_is_out_of_use_are_told_of_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    watch = DiskWatch()
    look(watch, Directory("/a", "dead"), dropped=7)
    look(watch, Directory("/a"), dropped=9)
    began, back, dropping = caplog.messages
    assert ("dead" in began, "in use again" in back, "not written" in dropping) == (True,) * 3
    look(watch, Directory("/a", "dead"), dropped=9)
    caplog.clear()
    look(watch, Directory("/a", "dead"), dropped=20)
    assert caplog.messages == []


def test_writes_are_not_taken_again_by_a_disk_that_is_out_of_use(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now = 1000.0
    watch = DiskWatch(lambda: now)
    look(watch, Directory("/a"), dropped=7)
    now += CALM_S + 1
    look(watch, Directory("/a", "dead"), dropped=9)
    look(watch, Directory("/a", "dead"), dropped=9)
    assert not [message for message in caplog.messages if "written again" in message]
    look(watch, Directory("/a"), dropped=9)
    assert caplog.messages[-1] == "L3: pages are written again; 9 were not"


def test_each_directory_has_its_figures(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a", tmp_path / 'b"', pages=10)
    put_all(store, range(6))
    engine = FakeEngine()
    engine.manager.tiers.disk = DiskTier(store)
    found = core_stats.collect(engine.scheduler, engine.manager)
    second = f'{{directory="{tmp_path}/b\\""}}'
    assert found.gauges[f"l3_directory_up{second}"] == 1
    assert found.gauges[f"l3_directory_writable{second}"] == 1
    assert found.gauges[f"l3_directory_direct_io{second}"] == 1
    assert found.gauges[f"l3_directory_pages_held{second}"] == 3
    written = found.counters[f"l3_directory_written_bytes_total{second}"]
    assert written * 2 == found.counters["l3_written_bytes_total"]
    assert found.counters[f"l3_directory_writes_busy_seconds_total{second}"] > 0
    assert found.counters[f"l3_directory_reads_busy_seconds_total{second}"] == 0
    assert found.counters["l3_timed_out_reads_total"] == 0
    assert found.gauges["l3_lifetime_written_bytes"] == written * 2
    assert found.gauges["l3_lifetime_disk_written_bytes"] > written * 2
    assert found.gauges["l3_lifetime_hit_bytes"] == 0
    assert found.gauges['tier_up{tier="l3"}'] == 1
    store.close()
    found = core_stats.collect(engine.scheduler, engine.manager)
    assert found.gauges[f"l3_directory_up{second}"] == 0
    assert found.gauges['tier_up{tier="l3"}'] == 0
