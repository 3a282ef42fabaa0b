"""The engine's heart: schedule, execute, finish."""

from __future__ import annotations

import time
from typing import Protocol

from kvtier_engine.core.scheduler import Scheduler
from kvtier_engine.kv.manager import KvManager
from kvtier_engine.messages import Output
from kvtier_engine.runner.step import Sampled, Step


class Ranks(Protocol):
    """All ranks of the model as one."""

    def execute(self, step: Step) -> list[Sampled]:
        """Runs the step on every rank; returns rank 0's samples."""

    def offloads_done(self) -> int:
        """The step up to which every rank has made its offload copies."""


class Engine:
    """Turns requests into tokens, one step at a time. One thread."""

    def __init__(self, scheduler: Scheduler, manager: KvManager, ranks: Ranks) -> None:
        self.scheduler = scheduler
        self.manager = manager
        self.ranks = ranks

    def step(self) -> tuple[bool, list[Output]]:
        """(whether anything was computed or copied, what requests got from it)."""
        self.settle()
        step = self.scheduler.schedule()
        if step is None:
            return False, []
        begun = time.perf_counter()
        sampled = self.ranks.execute(step)
        sizes = (len(chunk.token_ids) for chunk in step.chunks)
        tokens = sum(size for size in sizes if size > 1)  # one: an answer's next token
        seconds = time.perf_counter() - begun
        self.manager.rates.compute.step(tokens, seconds, has_drawn=bool(sampled))
        outputs = self.scheduler.finish(step, sampled)
        self.settle()
        return True, outputs

    def settle(self) -> None:
        """Takes in what ranks and disk have finished. Never waits."""
        self.manager.copies_done(self.ranks.offloads_done())
        self.manager.poll()
