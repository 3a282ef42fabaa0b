"""The engine's own log, simulated at the engine's sizes, has the hits that the engine counted."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from support.fake_engine import PAGE_TOKENS, FakeEngine, Sizes

from kvtier_engine.core.request_trace import RequestTrace
from kvtier_ops.simulate.setup import DiskSetup, MemorySetup, Setup
from kvtier_ops.simulate.tiers import simulate_tiers
from kvtier_ops.simulate.trace import read_trace

L1, L2 = 14, 40


def serve(path: Path, sizes: Sizes, seed: int) -> FakeEngine:
    """Conversations, whose turns go on from their answers; one request at a time. Each ends in the
    middle of a page, so that L1 always has just one page that is not full."""
    rng = random.Random(seed)
    engine = FakeEngine(sizes)
    trace = engine.scheduler.trace = RequestTrace(path, PAGE_TOKENS)
    sessions: list[list[int]] = [[] for _ in range(6)]
    for number in range(90):
        at = rng.randrange(len(sessions))
        new = PAGE_TOKENS * rng.randrange(1, 3)
        prompt = sessions[at] + [rng.randrange(40) for _ in range(new + 1 - len(sessions[at]) % 4)]
        if len(prompt) > 40:
            prompt = prompt[: 1 + 4 * rng.randrange(1, 4)]
        engine.submit(f"r{number}", prompt, 2 + 4 * rng.randrange(2))
        engine.run()
        sessions[at] = prompt + engine.answers[f"r{number}"]
    trace.close()
    assert trace.lost == 0
    return engine


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("l2", "disk"), [(0, False), (L2, False), (L2, True)])
def test_hits_are_those_that_the_engine_counted(
    tmp_path: Path, l2: int, disk: bool, seed: int
) -> None:
    path = tmp_path / "requests.jsonl"
    engine = serve(path, Sizes(l1=L1, l2=l2, disk=disk), seed)
    trace = read_trace(str(path))
    setup = Setup(
        token_bytes=1,
        page_tokens=PAGE_TOKENS,
        l1=MemorySetup(PAGE_TOKENS * (L1 - 1)),  # one page is that which is not full
        l2=MemorySetup(PAGE_TOKENS * l2),
        l3=DiskSetup(PAGE_TOKENS * 10_000 * disk, write="write_through", admission="all"),
    )
    outcome = simulate_tiers(trace, setup)
    logged = [json.loads(line)["hits"] for line in path.read_text().splitlines()]
    simulated = [
        {name: PAGE_TOKENS * pages for name, pages in zip(("l1", "l2", "l3"), found, strict=False)}
        for found in outcome.found
    ]
    assert simulated == logged
    assert list(outcome.tokens()[:3]) == engine.scheduler.counters.hit_tokens
    assert all(outcome.tokens()[: 1 + (l2 > 0) + disk]), "every tier has found something"
