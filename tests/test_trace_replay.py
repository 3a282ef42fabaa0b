"""The engine's bookkeeping of L1 and L2 finds in a real trace what a simulator finds there."""

from __future__ import annotations

import importlib
import itertools
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
TRACE = ROOT / "tests/data/traces/mooncake_conversation_500.jsonl.gz"
PERCENTS = (0.2, 1, 2, 5, 10, 20, 50)  # at the smallest, most chains are longer than the tier


@pytest.fixture
def replay(monkeypatch):
    """The benchmark's modules, which are no package that is installed."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    names = ("trace", "simulator", "books", "admission")
    return SimpleNamespace(**{n: importlib.import_module(f"tracereplay.{n}") for n in names})


@pytest.fixture(params=["real", "made"])
def trace(replay, request):
    """The beginning of a real trace, where little is used again; made sessions, where much is."""
    if request.param == "real":
        return replay.trace.read_trace(TRACE)
    chains = made_sessions(random.Random(4))
    times = [float(second) for second in range(len(chains))]
    return replay.trace.Trace("made", 1, chains, sum(map(len, chains)), times)


def made_sessions(rng: random.Random) -> list[list[bytes]]:
    """Sixty sessions of up to thirty turns, ten at a time, behind one of three beginnings."""
    sessions = [[[rng.randrange(3)], rng.randrange(30)] for _ in range(60)]
    blocks = itertools.count(100)
    chains = []
    while sessions:
        session = rng.choice(sessions[:10])
        session[0] += [next(blocks) for _ in range(rng.randrange(1, 7))]
        chains.append([number.to_bytes(16, "little") for number in session[0]])
        session[1] -= 1
        if session[1] < 0:
            sessions.remove(session)
    return chains


@pytest.fixture(params=["L1Books", "L2Books"])
def books(replay, request):
    return getattr(replay.books, request.param)


def test_lru_in_the_engine_is_lru_by_stack_distances(replay, trace, books):
    pages = [trace.pages(percent) for percent in PERCENTS]
    expected = replay.simulator.lru_hits(trace.chains, pages)
    hits = [replay.books.books_hits(trace.chains, books(each, "lru")) for each in pages]
    assert hits == expected
    assert len(set(hits)) > 2, "the trace tells capacities apart"


@pytest.mark.parametrize("reorder", [True, False])
def test_arc_in_the_engine_is_arc_by_its_paper(replay, trace, books, reorder):
    hits, expected = [], []
    for percent in PERCENTS:
        pages = trace.pages(percent)
        hits.append(replay.books.books_hits(trace.chains, books(pages, "arc"), reorder=reorder))
        expected.append(replay.simulator.arc_hits(trace.chains, pages, reorder=reorder))
    assert hits == expected


def test_a_perfect_hint_is_one(replay, trace):
    for percent in PERCENTS:
        pages = trace.pages(percent)
        hits = replay.books.hinted_hits(trace.chains, pages)
        assert hits == replay.simulator.hinted_lru_hits(trace.chains, pages)
        assert hits <= replay.simulator.min_hits(trace.chains, pages)
    ceiling = replay.simulator.lru_hits(trace.chains, [trace.unique])
    assert replay.books.hinted_hits(trace.chains, trace.pages(30)) == ceiling[0]


def test_a_disk_with_room_for_all_finds_and_writes_all(replay, trace):
    """Each page is written once, when L2 is about to lose it for the first time."""
    outcome = replay.admission.admission_outcome(trace, 10, 20, is_choosy=False)
    ceiling = replay.simulator.lru_hits(trace.chains, [trace.unique])[0]
    assert 0.99 * ceiling < outcome.hits <= ceiling, "the first to go may go unsaved"
    assert 0.8 * trace.unique < outcome.written <= trace.unique


@pytest.mark.parametrize(("percent", "times"), [(1, 10), (2, 5), (5, 5)])
def test_auto_finds_what_all_finds_and_writes_no_more(replay, trace, percent, times):
    every, auto = (
        replay.admission.admission_outcome(trace, percent, times, is_choosy=is_choosy)
        for is_choosy in (False, True)
    )
    assert trace.rate(auto.hits) >= trace.rate(every.hits) - 0.01, "these traces are short"
    assert auto.written <= every.written


def test_the_optimum_is_found_by_trying_everything(replay):
    """Two chains of two over a cache of two pages: by hand."""
    a, b, c, d = (bytes([number]) * 16 for number in range(4))
    chains = [[a, b], [c, d], [a, b], [c, d], [a, b]]
    assert replay.simulator.min_hits(chains, 2) == 4  # keep a and b throughout
    assert replay.simulator.min_hits(chains, 3) == 5  # and c
    assert replay.simulator.min_hits(chains, 4) == 6
