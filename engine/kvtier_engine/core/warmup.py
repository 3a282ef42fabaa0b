"""The first forward passes, before anybody waits for one."""

from __future__ import annotations

import time
from collections.abc import Callable

from kvtier_engine.config import EngineConfig
from kvtier_engine.core.engine import Ranks
from kvtier_engine.messages import SamplingParams
from kvtier_engine.runner.step import Chunk, NewSequence, Step

_SEQUENCE = -1  # no real sequence has this id


def warm_up(
    ranks: Ranks, config: EngineConfig, progress: Callable[[int, int], None]
) -> tuple[int, float]:
    """Computes a full chunk and one token of it on L1's first pages, which hold nothing yet:
    libraries load their kernels and allocate their buffers here. Returns how many tokens it
    computed in how many seconds, less than will be."""
    tokens = min(config.scheduler.max_step_tokens, config.scheduler.max_context_tokens - 1)
    size = config.cache.page_tokens
    params = SamplingParams(max_tokens=2, temperature=0)
    prompt = [0] * tokens
    pages = list(range(-(-(tokens + 1) // size)))
    steps = [
        Step(
            number=0,
            new=[NewSequence(_SEQUENCE, prompt, params)],
            chunks=[Chunk(_SEQUENCE, 0, prompt, pages[: -(-tokens // size)], True)],
        ),
        Step(number=0, chunks=[Chunk(_SEQUENCE, tokens, [0], pages, True)], drop=[_SEQUENCE]),
    ]
    took_s: list[float] = []
    for done, step in enumerate(steps):
        progress(done, len(steps))
        begun = time.perf_counter()
        ranks.execute(step)
        took_s.append(time.perf_counter() - begun)
    progress(len(steps), len(steps))
    return tokens, took_s[0]
