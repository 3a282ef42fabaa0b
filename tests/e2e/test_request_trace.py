"""A real engine's own log, simulated at its sizes, has the hits that its metrics count."""

from __future__ import annotations

import random

from support.engine_process import engine_config, running_engine

from kvtier_ops.simulate.setup import MemorySetup, Setup
from kvtier_ops.simulate.tiers import simulate_tiers
from kvtier_ops.simulate.trace import read_trace

PAGE = 64
L1, L2 = 14, 24
TIERS = ("l1", "l2")


def test_the_log_has_the_hits_that_were_counted(quickstart_model, run_dir, tmp_path):
    path = tmp_path / "requests.jsonl"
    config = engine_config(
        quickstart_model,
        run_dir,
        cache__l1__pages=L1,
        cache__l2__pages=L2,
        scheduler__max_context_tokens=800,
        server__request_trace=str(path),
    )
    rng = random.Random(5)
    texts = [rng.choices(range(1000, 40000), k=8 * PAGE) for _ in range(5)]
    with running_engine(config) as engine:
        for _ in range(16):
            pages = rng.randrange(2, 9)
            engine.complete(rng.choice(texts)[: pages * PAGE - 63], tokens=2)
            engine.wait_idle()
        hits = [int(engine.metric("hit_tokens_total", tier=tier)) for tier in TIERS]
        assert engine.metric("request_trace_lost_total") == 0
    trace = read_trace(str(path))  # after the end: it has all lines
    assert (len(trace), trace.block_tokens) == (16, PAGE)
    setup = Setup(1, PAGE, MemorySetup(PAGE * (L1 - 1)), MemorySetup(PAGE * L2))
    assert list(simulate_tiers(trace, setup).tokens()[:2]) == hits
    assert all(hits)
