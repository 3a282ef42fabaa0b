"""An engine that ends by itself: started again, up to a limit, with L2's memory kept."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ops.launched import Launched, is_alive, run_dir, start, write_profile
from support.engine_process import wait_for

from kvtier_ops.instances import State, read_state

QUICK = ("--set", "server.restart_delay_s=0.05")
SLOW = ("--set", "server.restart_delay_s=600")


def state_of(home: Path) -> State:
    state = read_state(run_dir(home))
    assert state is not None
    return state


def kill_engine(launched: Launched) -> dict[str, Any]:
    """kill -9 of a ready engine; what it had seen."""
    launched.wait_ready()
    wait_for(lambda: state_of(launched.home).state == "ready", "the state file")
    seen = launched.seen()
    os.kill(seen["pid"], signal.SIGKILL)
    return seen


def wait_restarts(launched: Launched, count: int) -> State:
    def is_so() -> bool:
        assert not launched.ended(), launched.err.read_text()
        state = state_of(launched.home)
        return state.restarts == count and state.state == "ready"

    wait_for(is_so, f"restart {count}", 20)
    return state_of(launched.home)


def test_a_killed_engine_is_started_again_at_its_address_with_its_memory(home: Path) -> None:
    launched = start(home, write_profile(home), {}, *QUICK)
    before = kill_engine(launched)
    url = state_of(home).url
    state = wait_restarts(launched, 1)
    after = launched.seen()
    assert after["pid"] != before["pid"]
    assert (after["arena_id"], state.url) == (before["arena_id"], url)
    assert "signal SIGKILL" in state.last_end
    assert state.engine_pid == after["pid"]
    err = launched.err.read_text()
    assert "the engine ended while serving (signal SIGKILL); starting it again in 0.05 s" in err
    launched.signal(signal.SIGTERM)
    assert launched.end() == 0
    assert "WARNING launcher: the engine ended while serving" in launched.log
    assert "INFO launcher: serving again, after 1 restart in all\n" in launched.log
    assert "INFO launcher: stopped" in launched.log


def test_a_restart_that_fails_is_tried_again(home: Path) -> None:
    """The second engine cannot listen, and says so: that would end a first start."""
    say = ["error: the port is taken", "hint: take another"]
    lives = [{"die_ready": 7}, {"die": 3, "say": say}, {}]
    launched = start(home, write_profile(home), {"lives": lives}, *QUICK)
    launched.wait_ready()
    wait_restarts(launched, 2)
    err = launched.err.read_text()
    assert "exit status 7" in err
    assert "(exit status 3): the port is taken; starting it again in 0.1 s" in err
    launched.signal()
    assert launched.end() == 0


@pytest.mark.parametrize(("limit", "times"), [(1, "once"), (2, "2 times")])
def test_the_limit_ends_the_launch(home: Path, limit: int, times: str) -> None:
    more = (*QUICK, "--set", f"server.restart_limit={limit}")
    launched = start(home, write_profile(home), {"die_ready": 7}, *more)
    assert launched.end() == 1
    err = launched.err.read_text()
    assert f"ended while serving (exit status 7); it was restarted {times} within 600 s" in err
    assert "`server.restart_limit`" in err
    assert launched.log.count("INFO fake: started") == limit + 1
    assert [path.name for path in launched.run_dir.iterdir()] == ["lock"]


def test_a_signal_ends_the_pause_before_a_restart(home: Path) -> None:
    launched = start(home, write_profile(home), {}, *SLOW)
    kill_engine(launched)
    launched.wait_text("starting it again in 600 s")
    assert state_of(home).state == "restarting"
    assert state_of(home).engine_pid is None
    launched.signal(signal.SIGTERM)
    assert launched.end() == 0
    assert "stopped" in launched.err.read_text()


def test_a_signal_ends_a_restart_that_is_not_ready_yet(home: Path) -> None:
    launched = start(home, write_profile(home), {"lives": [{}, {"hang": True}]}, *QUICK)
    first = kill_engine(launched)
    wait_for(lambda: launched.seen()["pid"] != first["pid"], "the second engine")
    second = launched.seen()["pid"]
    launched.wait_log("ready: http")
    launched.signal()
    assert launched.end() == 0
    assert not is_alive(second)
