"""Detached launches of the fake engine, and what can be read of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ops.launched import is_alive, kvtier, run_dir

from kvtier_ops.instances import State, read_state

KEY = "key-of-the-admin-in-the-environment"
SERVER = "server: {port: 0, drain_s: 5, admin_key: {env: ADMIN_KEY}}\n"


@contextmanager
def nothing_left_running(home: Path) -> Iterator[None]:
    """Nothing that was detached outlives its test."""
    try:
        yield
    finally:
        for folder in (home / "run").glob("kvtier/*"):
            state = read_state(folder)
            for pid in (state.pid, state.engine_pid) if state is not None else ():
                if pid is not None and is_alive(pid):
                    os.kill(pid, signal.SIGKILL)


def detach(profile: Path, *arguments: str, plan: dict[str, Any] | None = None) -> State:
    done = kvtier("launch", str(profile), "--detach", *arguments, plan=plan)
    assert done.returncode == 0, done.stderr
    return state_of(profile.parent)


def state_of(home: Path) -> State:
    state = read_state(run_dir(home))
    assert state is not None
    return state


def seen(home: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run_dir(home) / "seen.json").read_text())
    return result


def log_of(home: Path) -> str:
    return Path(state_of(home).log).read_text()
