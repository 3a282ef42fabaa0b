"""Tuning and undoing, killed at every step: the host is as it was before."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ops.tuned import CHANGES, FakeKernel, more_pages, pool, small_kernel, state

from kvtier_ops.tune.change import Kind, Setting
from kvtier_ops.tune.journal import Journal, journal_path

pytestmark = pytest.mark.host  # this machine's hugepages: one at a time
REAL = pool(0)
needs_hugepages = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access(REAL, os.W_OK), reason="needs root and hugepages"
)


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return small_kernel(tmp_path / "root")


def crash_at(point: int, work: Callable[[], object]) -> bool:
    """Runs `work` in a process that is killed at its point-th step (a step: before or after the
    journal or a setting is written). True: it was; False: it had fewer steps, and ended."""
    child = os.fork()
    if child == 0:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1
            if steps == point:
                os.kill(os.getpid(), signal.SIGKILL)

        def around(real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*given: Any) -> Any:
                step()
                result = real(*given)
                step()
                return result

            return wrapped

        Setting.write = around(Setting.write)  # type: ignore[method-assign]
        Journal.save = around(Journal.save)  # type: ignore[method-assign]
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status != 0


def test_killed_at_any_step_of_tuning_or_of_undoing(kernel: FakeKernel) -> None:
    """Every step of both, one after another: afterwards one more undo makes it exact."""
    before, points = state(kernel), 0
    while crash_at(points + 1, lambda: kernel.apply(CHANGES)):
        points += 1
        undo_points = 0
        while crash_at(undo_points + 1, kernel.undo):
            undo_points += 1
        assert state(kernel) == before, f"killed at step {points}"
        assert not journal_path().exists()
    assert points >= 2 * (3 + 3 + 3)
    assert state(kernel) == ("300", "120", "4096")
    undos = 0
    while crash_at(undos + 1, kernel.undo):
        undos += 1
        kernel.undo()
        assert state(kernel) == before, f"undo killed at step {undos}"
        kernel.apply(CHANGES)
    assert undos >= 2 * 3
    assert state(kernel) == before


@needs_hugepages
def test_killed_at_any_step_with_this_machines_hugepages(home: Path) -> None:
    root = Path("/")
    real = FakeKernel(root)
    setting = Setting(REAL, Kind.COUNT)
    before = setting.read(root)
    try:
        changes = [more_pages(REAL, int(before), int(before) + 3)]
        point = 0
        while crash_at(point + 1, lambda: real.apply(changes)):
            point += 1
            assert not any(done.error for done in real.undo())
            assert setting.read(root) == before, f"killed at step {point}"
        assert setting.read(root) == str(int(before) + 3)
        assert point >= 6
    finally:
        real.undo()
        setting.write(root, before)
