"""`kvtier stop` of several, and of what is stopping or has ended meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ops.detached import detach, log_of, nothing_left_running, state_of
from ops.launched import is_alive, kvtier, run_dir, write_profile
from support.engine_process import wait_for

from kvtier_ops.instances import Phase, State, find_instance, write_state
from kvtier_ops.instances.control import order
from kvtier_ops.instances.find import NotRunning
from kvtier_ops.instances.state import now
from kvtier_ops.instances.stop import stop, time_left


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


def test_the_time_of_a_stop_that_is_under_way_is_what_is_left_of_it() -> None:
    state = State("a", "/a.yaml", 1, 1, state=Phase.STOPPING, drain_s=600.0)
    assert 0 < time_left(replace(state, since=now() - 200)) <= 400
    assert time_left(replace(state, since=now() - 601)) == 0
    assert time_left(replace(state, since=now() + 99)) == 600  # the clock was put back


def test_a_second_stop_sends_no_signal_when_the_drain_is_over(home: Path) -> None:
    """The first one's second signal comes just then: ours would be the third, which kills."""
    state = detach(write_profile(home), plan={"stubborn": True})
    os.kill(state.pid, signal.SIGTERM)
    wait_for(lambda: "stop 1" in log_of(home), "the engine to drain")
    write_state(run_dir(home), replace(state_of(home), since=now() - 600))
    said = list[str]()

    def note(text: str) -> None:
        said.append(text)
        os.kill(state.pid, signal.SIGTERM)  # the first one's

    stop(find_instance("small"), None, note)
    assert said == [f"{state.name} is being stopped already: running requests have had their time"]
    assert "killing" not in Path(state.log).read_text()


def test_an_order_to_one_that_is_being_stopped_is_not_to_be_tried_again(home: Path) -> None:
    state = detach(write_profile(home), plan={"stubborn": True})
    os.kill(state.pid, signal.SIGTERM)
    wait_for(lambda: state_of(home).state == "stopping", "the launcher to stop")
    for what in ("restart", "reload"):
        done = kvtier(what, "small")
        assert done.returncode == 3
        assert "error: the launcher is being stopped\n" in done.stderr
        assert "hint: when it has ended, `kvtier launch` it again" in done.stderr
    os.kill(state.pid, signal.SIGTERM)
    wait_for(lambda: not is_alive(state.pid), "the launcher to be gone")
