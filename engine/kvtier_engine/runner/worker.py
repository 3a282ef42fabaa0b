"""The loop of a rank above 0: take a step, execute it, say how far the offloads are."""

from __future__ import annotations

from collections.abc import Callable

from kvtier_engine.runner.runner import Runner
from kvtier_engine.runner.step import Step


def serve_steps(
    receive: Callable[[], Step | None], done: Callable[[int], None], runner: Runner
) -> None:
    """Executes what `receive` returns (it may block) until that is None.

    After each step, `done` gets the number up to which all offloads are complete. The wait
    for this step's own copies costs nothing: rank 0 samples and schedules meanwhile.
    """
    while (step := receive()) is not None:
        runner.execute(step)
        runner.wait_for_offloads()
        done(runner.offloads_done())
