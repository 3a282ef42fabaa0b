"""`kvtier stop` of several, and of what is stopping or has ended meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.detached import detach, nothing_left_running
from ops.launched import is_alive, kvtier, write_profile
from support.engine_process import wait_for

from kvtier_ops.instances import find_instance
from kvtier_ops.instances.control import order
from kvtier_ops.instances.find import NotRunning
from kvtier_ops.instances.stop import stop


@pytest.fixture
def home(home: Path) -> Iterator[Path]:
    with nothing_left_running(home):
        yield home


def test_what_runs_is_stopped_whatever_else_was_named(home: Path) -> None:
    state = detach(write_profile(home))
    done = kvtier("stop", "nope", "none.yaml", state.name)
    assert done.returncode == 3
    assert f"stopped {state.name}\n" in done.stderr
    assert "error: no instance is called `nope`" in done.stderr
    assert "error: there is no profile `none.yaml`" in done.stderr
    assert not is_alive(state.pid)
    assert kvtier("stop", "none.yaml").returncode == 2


def test_one_that_is_named_twice_is_stopped_once(home: Path) -> None:
    state = detach(write_profile(home))
    done = kvtier("stop", state.name, "small", str(home / "small.yaml"))
    assert (done.returncode, done.stderr.count(f"stopped {state.name}\n")) == (0, 1)
    assert "error" not in done.stderr


def test_what_ends_before_its_signal_was_not_killed(home: Path) -> None:
    """Of two stops at once, the second finds that the launcher has gone."""
    detach(write_profile(home))
    found, said = find_instance("small"), list[str]()
    assert kvtier("stop", "small").returncode == 0
    stop(found, None, said.append)
    assert said == [f"{found.state.name} has ended meanwhile"]
    with pytest.raises(NotRunning, match="has ended meanwhile"):
        order(found, "restart", said.append)


def test_what_was_killed_before_its_signal_is_dead(home: Path) -> None:
    state = detach(write_profile(home))
    found = find_instance("small")
    os.kill(state.pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(state.pid), "the launcher to be gone")
    with pytest.raises(NotRunning, match="its launcher was killed"):
        stop(found, None, print)
