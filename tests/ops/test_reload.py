"""Orders to a launcher: one that does not hear them, and what a reload finds and says."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.detached import KEY, detach, log_of, nothing_left_running
from ops.launched import kvtier, write_profile

from kvtier_ops.instances import control


@pytest.fixture
def home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ADMIN_KEY", KEY)
    with nothing_left_running(home):
        yield home


def test_a_launcher_that_is_halted_is_not_waited_for_and_drops_the_order(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator was told that nothing is changed."""
    state = detach(write_profile(home))
    os.kill(state.pid, signal.SIGSTOP)
    for what in ("restart", "reload"):
        with monkeypatch.context() as patch:
            patch.setattr(control, "FIRST_LINE_S", 0.1)
            done = kvtier(what, "small")
        assert done.returncode == 3
        assert f"the launcher of `{state.name}` does not answer within 0.1 s" in done.stderr
        assert f"`kill -CONT {state.pid}`" in done.stderr
    os.kill(state.pid, signal.SIGCONT)
    assert kvtier("restart", "small").returncode == 0
    assert log_of(home).count("told to restart") == 1
    assert "told to reload" not in log_of(home)
    assert kvtier("stop", "small").returncode == 0
