"""What benchmarks/store.py concludes from its turns, and that it notices wrong pages."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE_BYTES = 4096


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the benchmark, which is no package that is installed."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")

    def load(name: str) -> ModuleType:
        return importlib.import_module(f"pagestore.{name}")

    return load


class Memory:
    """A store in a dictionary, of which a test can change what is kept."""

    def __init__(self, slots: int) -> None:
        self.buffers = [memoryview(bytearray(PAGE_BYTES)) for _ in range(slots)]
        self.kept: dict[int, bytes] = {}
        self.synced = 0

    def page(self, slot):
        return self.buffers[slot]

    def put(self, batch):
        for item in batch:
            self.kept[item.number] = bytes(self.buffers[item.slot])

    def get(self, batch):
        kept = [self.kept.get(item.number) for item in batch]
        return [each and memoryview(each) for each in kept]

    def sync(self):
        self.synced += 1

    def close(self):
        pass


@pytest.fixture
def runner(load, tmp_path):
    setting = load("peers.adapter").Setting(tmp_path, PAGE_BYTES, slots=4, pages=8)
    return load("peers.runner").Runner(Memory(setting.slots), setting)


@pytest.mark.parametrize(
    ("count", "percent", "expected"), [(1, 99, 1), (4, 50, 2), (100, 50, 50), (100, 99, 99)]
)
def test_a_percentile_is_one_of_the_values(load, count, percent, expected):
    values = list(range(count, 0, -1))
    assert load("turn").percentile(values, percent) == expected


def test_sides_take_turns_and_every_side_begins(load):
    turn = load("turn")
    order: list[str] = []

    def side(name: str):
        order.append(name)
        return turn.Turn(10**9, seconds=1.0)

    contest = turn.Contest({"a": lambda: side("a"), "b": lambda: side("b")})
    contest.run(3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert contest.rate("a") == 1.0


def test_a_ratio_is_of_turns_of_the_same_round(load):
    """The disk's own rate wanders: medians of each side alone would say 1."""
    turn = load("turn")
    rates = {"fio": [1.0, 2.0, 4.0], "kvtier": [2.0, 1.0, 2.0]}
    contest = turn.Contest({name: iter([]).__next__ for name in rates})
    for name, values in rates.items():
        contest.turns[name] = [turn.Turn(int(rate * 1e9), seconds=1.0) for rate in values]
    assert contest.ratio("kvtier", "fio", lambda each: each.gb_per_s) == 0.5


def test_a_missed_bar_is_set_in_bold(load):
    bar = load("turn").bar
    assert bar(0.95, 0.95, at_least=True) == "0.95"
    assert bar(0.94, 0.95, at_least=True) == "**0.94**"
    assert bar(0.21, 0.20, at_least=False) == "**0.21**"


def test_a_store_that_keeps_its_pages_passes(runner):
    assert runner.put(range(8)).payload_bytes == 8 * PAGE_BYTES
    assert runner.adapter.synced == 1
    assert len(runner.single([3, 1]).latencies_s) == 2
    assert runner.concurrent(range(8)).payload_bytes == 8 * PAGE_BYTES


def test_a_store_that_gives_another_page_is_caught(runner):
    runner.put(range(8))
    runner.adapter.kept[5] = runner.adapter.kept[6]
    with pytest.raises(AssertionError, match="page 5"):
        runner.concurrent(range(8))


def test_a_store_that_lost_pages_says_how_many_are_there(runner):
    runner.put(range(8))
    del runner.adapter.kept[2]
    assert runner.present(range(8)).payload_bytes == 7 * PAGE_BYTES
    with pytest.raises(AssertionError, match="page 2"):
        runner.single([2])


def test_a_disk_with_too_little_room_is_refused_with_a_sentence(load, tmp_path):
    scope = load("scope")
    small = scope.Scope(tmp_path, 1, 1 << 20, 1 << 20, (1 << 20,), 1.0, 10, 10, True, None)
    assert small.room_error() is None
    large = scope.Scope(tmp_path, 1, 1 << 60, 1 << 20, (1 << 20,), 1.0, 10, 10, True, None)
    assert "--disk" in large.room_error()
