"""Three tiers at planned sizes: what each finds, and what the disk takes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from ops.simulated import BEGINNING, BIG, line, write_chains, write_lines

from kvtier_ops.simulate.disk import KeepReusedIndex, LruIndex
from kvtier_ops.simulate.setup import DiskSetup, MemorySetup, Setup
from kvtier_ops.simulate.stack import hit_curve
from kvtier_ops.simulate.tiers import Outcome, Units, simulate_tiers
from kvtier_ops.simulate.trace import Trace, read_trace

BLOCK = 4


def setup_of(l1: int, l2: int = 0, l3: int = 0, **disk: object) -> Setup:
    """Sizes in blocks."""
    return Setup(
        token_bytes=1,
        page_tokens=BLOCK,
        l1=MemorySetup(BLOCK * l1),
        l2=MemorySetup(BLOCK * l2),
        l3=DiskSetup(BLOCK * l3, **{"admission": "all", **disk}),  # type: ignore[arg-type]
    )


def made_trace(folder: Path, seed: int = 4) -> Trace:
    """Sessions of several turns, ten at a time, behind one of three beginnings."""
    rng = random.Random(seed)
    sessions = [[[rng.randrange(3)], rng.randrange(30)] for _ in range(60)]
    chains, fresh = [], 100
    while sessions:
        session = rng.choice(sessions[:10])
        new = rng.randrange(1, 7)
        session[0] += range(fresh, fresh + new)  # type: ignore[operator]
        fresh += new
        chains.append(list(session[0]))  # type: ignore[call-overload]
        session[1] -= 1  # type: ignore[operator]
        if session[1] < 0:  # type: ignore[operator]
            sessions.remove(session)
    return read_trace(write_chains(folder / "made.jsonl", chains))


@pytest.fixture
def made(tmp_path: Path) -> Trace:
    return made_trace(tmp_path)


def test_by_hand(tmp_path: Path) -> None:
    """L1 holds one chain, L2 two, L3 all."""
    a, b, c = [1, 2], [3, 4], [5, 6]
    trace = read_trace(write_chains(tmp_path / "t", [a, a, b, a, c, b, [1, 9]]))
    outcome = simulate_tiers(trace, setup_of(2, 4, 100))
    assert [found[:3] for found in outcome.found] == [
        (0, 0, 0), (2, 0, 0), (0, 0, 0), (0, 2, 0), (0, 0, 0), (0, 0, 2), (0, 0, 1),
    ]  # fmt: skip
    assert [found.l1_front for found in outcome.found] == [0, 2, 0, 0, 0, 0, 0]
    assert [found.l2_front for found in outcome.found] == [0, 2, 0, 2, 0, 0, 0]
    assert outcome.traffic.written == 6, "b, then a, then c"
    assert outcome.traffic.read == 3


def test_what_is_used_now_is_not_evicted_for_what_comes(tmp_path: Path) -> None:
    """The block in the way is the other chain's tail, although that is younger."""
    trace = read_trace(write_chains(tmp_path / "t", [[1, 2], [3, 4], [1, 2, 5], [3, 4]]))
    outcome = simulate_tiers(trace, setup_of(1, 4, 100))
    assert outcome.found[3][:3] == (0, 1, 1)
    assert outcome.traffic.written == 2


def rates(outcome: Outcome) -> int:
    return sum(found.total for found in outcome.found)


def test_tiers_include_one_another(made: Trace) -> None:
    curve = hit_curve(made, made.unique)
    for l1, l2 in ((20, 60), (60, 20), (100, 0), (40, 40)):
        outcome = simulate_tiers(made, setup_of(l1, l2))
        assert rates(outcome) == curve.hits(max(l1, l2))
        assert sum(found.l1 for found in outcome.found) == curve.hits(l1)
        assert sum(found.l1_front for found in outcome.found) == curve.hits(l1)


@pytest.mark.parametrize("l3", [150, 400])
def test_a_disk_that_everything_is_written_to_is_lru(made: Trace, l3: int) -> None:
    outcome = simulate_tiers(made, setup_of(10, 30, l3, write="write_through"))
    assert rates(outcome) == hit_curve(made, made.unique).hits(l3)


def test_a_disk_with_room_for_all_finds_and_writes_all_once(made: Trace) -> None:
    outcome = simulate_tiers(made, setup_of(10, 30, 10 * made.unique))
    assert rates(outcome) == hit_curve(made, made.unique).ceiling
    assert made.unique - 30 <= outcome.traffic.written <= made.unique
    assert outcome.traffic.unsaved == outcome.traffic.not_admitted == 0


def test_a_disk_that_is_slow_takes_what_it_can(made: Trace) -> None:
    """A request a second; a block is four bytes."""
    whole = simulate_tiers(made, setup_of(10, 30, 9999))
    slow = simulate_tiers(made, setup_of(10, 30, 9999), disk_writes_per_s=4)
    assert slow.traffic.unsaved > 0
    longest = max(len(request.chain) for request in made)
    assert slow.traffic.written <= len(made) + longest
    assert rates(slow) < rates(whole)
    quick = simulate_tiers(made, setup_of(10, 30, 9999), disk_writes_per_s=4000)
    assert (rates(quick), quick.traffic.unsaved) == (rates(whole), 0)
    hurried = simulate_tiers(made, setup_of(10, 30, 9999), speed=1e6, disk_writes_per_s=4000)
    assert hurried.traffic.unsaved > 0


def test_a_budget_of_writes_is_kept(made: Trace) -> None:
    outcome = simulate_tiers(made, setup_of(10, 30, 9999, bytes_per_day=BLOCK * 200))
    assert 0 < outcome.traffic.written <= 200
    assert sum(outcome.traffic.written_on.values()) == outcome.traffic.written
    assert outcome.traffic.not_admitted > 0


def test_the_second_sighting_is_written(made: Trace) -> None:
    once = simulate_tiers(made, setup_of(10, 30, 9999))
    twice = simulate_tiers(made, setup_of(10, 30, 9999, sightings=2))
    assert 0 < twice.traffic.written < once.traffic.written
    assert twice.traffic.not_admitted >= once.traffic.written
    long = setup_of(10, 30, 9999, sightings=2, sightings_tokens=BLOCK)
    assert simulate_tiers(made, long).traffic.written == once.traffic.written


def test_days_are_counted_apart(tmp_path: Path) -> None:
    day_ms = 86_400_000
    lines = [line([n * 10, n * 10 + 1], timestamp=day_ms * n, block_tokens=BLOCK) for n in range(4)]
    outcome = simulate_tiers(read_trace(write_lines(tmp_path / "t", lines)), setup_of(1, 2, 99))
    assert dict(outcome.traffic.written_on) == {1: 2, 2: 2, 3: 2}


def test_who_stores_nothing_only_looks(tmp_path: Path) -> None:
    fields = {"timestamp": 0, "block_tokens": BLOCK}
    lines = [
        line([1, 2], no_store=True, **fields),
        line([1], **fields),
        line([1, 2], no_store=True, **fields),
        line([1, 2], **fields),
    ]
    trace = read_trace(write_lines(tmp_path / "t", lines))
    assert [found.l1 for found in simulate_tiers(trace, setup_of(9)).found] == [0, 0, 1, 1]
    assert hit_curve(trace, trace.unique).ceiling == 2


def test_no_reuse_finds_nothing(made: Trace) -> None:
    setup = Setup(1, BLOCK, MemorySetup(4000), MemorySetup(4000), prefix_reuse=False)
    assert rates(simulate_tiers(made, setup)) == 0


def test_pages_larger_than_blocks_take_several(made: Trace) -> None:
    units = Units.of(made, 3 * BLOCK)
    assert (units.block_tokens, units.blocks(100)) == (12, 8)
    grouped = [units.regroup(request) for request in made]
    for request, large in zip(made, grouped, strict=True):
        assert large.chain == request.chain[2::3]
        assert large.reusable == request.reusable // 3
    setup = Setup(1, 3 * BLOCK, MemorySetup(12 * 9), MemorySetup(12 * 20), DiskSetup(12 * 400))
    hits = sum(found.total for found in simulate_tiers(made, setup).found)
    assert 0 < hits <= hit_curve(grouped, made.unique).ceiling
    assert Units.of(made, 1).block_tokens == BLOCK


def test_keep_reused_is_the_page_stores(tmp_path: Path) -> None:
    """The rule of csrc/store/eviction.cc, restated and tried at every step."""
    rng = random.Random(1)
    parents = [-1 if n % 5 == 0 else n - 1 for n in range(60)]  # chains of five
    index = KeepReusedIndex(12, parents)
    rank: dict[int, int] = {}
    was_read: set[int] = set()
    uses = 0
    for _ in range(3000):
        head = 5 * rng.randrange(12)
        chain = list(range(head, head + rng.randrange(1, 6)))
        read = {block for block in chain if block in rank and rng.random() < 0.3}
        was_read |= read
        index.touch(chain, read)
        for block in reversed(chain):
            if block in rank:
                uses += 1
                rank[block] = uses + (48 if block in was_read else 0)
        block = rng.choice(chain)
        if block not in rank:
            if len(rank) == 12:
                leaves = [b for b in rank if all(parents[other] != b for other in rank)]
                victim = min(leaves, key=lambda leaf: (rank[leaf], leaf))
                del rank[victim]
                was_read.discard(victim)
            uses += 1
            rank[block] = uses + (48 if block in was_read else 0)
            index.add(block)
        assert set(index.held) == set(rank)  # type: ignore[call-overload]


def test_lru_index_evicts_the_oldest() -> None:
    index = LruIndex(2)
    for block in (1, 2):
        index.add(block)
    index.touch([1], frozenset())
    index.add(3)
    assert list(index.held) == [1, 3]  # type: ignore[call-overload]


def test_the_beginning_of_a_real_trace() -> None:
    """As the engine's own L2 and saver do over the same sizes (tests/test_trace_replay.py)."""
    trace = read_trace(str(BEGINNING))
    pages = trace.unique // 20
    setup = Setup(1, 512, l2=MemorySetup(512 * pages), l3=DiskSetup(512 * pages * 20))
    outcome = simulate_tiers(trace, setup)
    assert rates(outcome) == hit_curve(trace, trace.unique).ceiling


ADMISSION = {  # docs/benchmarks.md: hits and blocks written under `all` and `auto`, 1 %, 5 times
    "mooncake_synthetic": (0.169, 0.175, 97_830, 45_371),
    "mooncake_conversation": (0.214, 0.214, 214_558, 214_558),
}


@pytest.mark.skipif(not BIG.is_dir(), reason="the whole traces are not here")
@pytest.mark.parametrize("name", ADMISSION)
def test_admission_is_the_engines(name: str) -> None:
    """The engine's saver writes ahead of evictions: a few pages more, or others."""
    trace = read_trace(str(BIG / f"{name}.jsonl.gz"))
    pages, size = trace.unique // 100, trace.block_tokens
    for place, admission in enumerate(("all", "auto")):
        disk = DiskSetup(5 * pages * size, admission=admission)  # type: ignore[arg-type]
        outcome = simulate_tiers(trace, Setup(1, size, l2=MemorySetup(pages * size), l3=disk))
        assert trace.rate(rates(outcome)) == pytest.approx(ADMISSION[name][place], abs=0.0025)
        assert outcome.traffic.written == pytest.approx(ADMISSION[name][2 + place], rel=0.02)
