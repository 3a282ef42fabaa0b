"""`state.json` of a run folder: what one launcher serves, and how far it is.

Written whole or not at all, by the launcher alone; it goes when the launcher ends. One whose
launcher is gone is what a `kill -9` leaves.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

STATE_FILE = "state.json"
HOST_FILE = "host.json"  # the host as it was before the engine took its part of it
_EVERY_ADDRESS = ("0.0.0.0", "::", "")
CONTROL_SOCKET = "control.sock"
VERSION = 1
_KINDS: dict[type[int] | type[float], tuple[str, ...]] = {
    int: ("pid", "started_ticks", "restarts", "port"),
    float: ("since", "started", "drain_s"),
}
_TEXTS = ("name", "profile", "model", "host", "url", "last_end", "log", "kvtier")


class Phase(StrEnum):
    """What an instance is doing; the launcher writes all but `dead`."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    DRAINING = "draining"
    STOPPING = "stopping"
    DEAD = "dead"  # the launcher was killed


@dataclass(frozen=True)
class State:
    """What other commands may know of a launch. No secrets: overrides are masked."""

    name: str
    profile: str
    pid: int
    started_ticks: int  # of the pid's process, since boot: another one has another number
    state: Phase = Phase.STARTING
    since: float = 0.0  # seconds since 1970, like `started`
    started: float = 0.0
    model: str = ""
    overrides: tuple[str, ...] = ()
    engine_pid: int | None = None
    host: str = ""
    port: int = 0  # what the profile asks for; the real one once the engine listens
    url: str = ""
    directories: tuple[str, ...] = ()  # of L3
    restarts: int = 0
    last_end: str = ""  # how the engine ended last, and when it did so by itself
    drain_s: float = 0.0
    detached: bool = False
    log: str = ""
    kvtier: str = ""
    version: int = VERSION

    def has_address(self, host: str, port: int) -> bool:
        """Whether it is in the way of whoever would listen there; port 0 is any free one."""
        is_same = host == self.host or host in _EVERY_ADDRESS or self.host in _EVERY_ADDRESS
        return is_same and port == self.port != 0

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")


@dataclass(frozen=True)
class Instance:
    """A run folder and what its state file says."""

    run_dir: Path
    state: State

    @property
    def is_alive(self) -> bool:
        """Whether the launcher that wrote the state still runs."""
        return process_ticks(self.state.pid) == self.state.started_ticks

    @property
    def has_ended_well(self) -> bool:
        """Whether its launcher has ended since and taken its state file with it, as one that is
        killed cannot; another launcher may have come since."""
        if self.is_alive:
            return False
        now = read_state(self.run_dir)
        return now is None or (now.pid, now.started_ticks) != (
            self.state.pid,
            self.state.started_ticks,
        )

    @property
    def phase(self) -> Phase:
        return self.state.state if self.is_alive else Phase.DEAD

    @property
    def control_socket(self) -> Path:
        return self.run_dir / CONTROL_SOCKET


def process_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if there is none, or if it
    has ended and only waits to be reaped."""
    try:
        parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if parts[0] in "ZX" else int(parts[19])


def own_ticks() -> int:
    ticks = process_ticks(os.getpid())
    assert ticks is not None, "/proc shows this process"
    return ticks


def now() -> float:
    return round(time.time(), 3)


def write_state(run_dir: Path, state: State) -> None:
    """Only its owner can read it. Raises OSError."""
    draft = run_dir / f"{STATE_FILE}.new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(asdict(state), file, indent=2)
    draft.replace(run_dir / STATE_FILE)


def read_state(run_dir: Path) -> State | None:
    """None if there is none, or none that this kvtier reads."""
    try:
        said = json.loads((run_dir / STATE_FILE).read_bytes())
        return _state(said)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _state(said: dict[str, Any]) -> State:
    """Fields that a later kvtier adds are left out."""
    known = {field.name for field in fields(State)}
    values = {name: value for name, value in said.items() if name in known}
    if values.get("version") != VERSION:
        raise ValueError("another version's state")
    values["state"] = Phase(values["state"])
    for name in ("overrides", "directories"):
        values[name] = tuple(map(str, values[name]))
    for kind, names in _KINDS.items():
        values.update({name: kind(values[name]) for name in names})
    if values["pid"] <= 0 or not all(isinstance(values[name], str) for name in _TEXTS):
        raise ValueError("no state of ours")
    return State(**values)
