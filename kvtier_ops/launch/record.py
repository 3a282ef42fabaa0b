"""The launcher's own state file, and the claims of others that it must not collide with."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kvtier_ops.errors import Problem, Refused
from kvtier_ops.instance import instance_name, log_path_of, run_root
from kvtier_ops.instances import Instance, Phase, State, all_instances, write_state
from kvtier_ops.instances.state import now, own_ticks
from kvtier_ops.launch.run_dir import RunDir
from kvtier_ops.paths import abbreviate
from kvtier_ops.plan import Plan
from kvtier_ops.profile.load import ProfileFile
from kvtier_ops.profile.secrets import masked


class Collision(Refused):
    """Another instance has what this profile asks for; each problem is one thing."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__()
        self.problems = tuple(problems)


class Record:
    """What the state file says, kept up to date."""

    def __init__(self, run_dir: RunDir, state: State) -> None:
        self._run_dir = run_dir
        self.state = state

    def update(self, **changes: Any) -> None:
        """A new `state` starts its `since`. A full disk stops nobody from serving: the file is
        then what it was."""
        if changes.get("state", self.state.state) is not self.state.state:
            changes["since"] = now()
        self.state = replace(self.state, **changes)
        with suppress(OSError):
            write_state(self._run_dir.path, self.state)

    def claim(self, plan: Plan) -> None:
        """Says what this instance is about to take. Raises Collision if another has said so."""
        with _claiming():
            refuse_collisions(plan, self.state.name)
            self.update(**claims_of(plan))


def new_record(
    run_dir: RunDir, file: ProfileFile, overrides: tuple[str, ...], *, detached: bool
) -> Record:
    state = State(
        name=instance_name(file.path),
        profile=os.path.abspath(file.path),
        pid=os.getpid(),
        started_ticks=own_ticks(),
        state=Phase.STARTING,
        since=now(),
        started=now(),
        overrides=tuple(map(shown_override, overrides)),
        detached=detached,
        log=str(log_path_of(file.path)),
        kvtier=version("kvtier"),
    )
    record = Record(run_dir, state)
    record.update()
    return record


def claims_of(plan: Plan) -> dict[str, Any]:
    server = plan.profile.server
    return {
        "model": plan.served_name,
        "host": server.host,
        "port": server.port,
        "directories": tuple(os.path.realpath(disk.path) for disk in plan.disks),
        "drain_s": server.drain_s,
    }


def shown_override(text: str) -> str:
    """`engine.environment.HF_TOKEN=...` does not show the token."""
    field, _, value = text.partition("=")
    return f"{field}={masked(field.rpartition('.')[2], value)}"


def refuse_collisions(plan: Plan, name: str) -> None:
    """Raises Collision with everything that a live instance other than `name` has already."""
    others = [each for each in all_instances() if each.is_alive and each.state.name != name]
    problems = [problem for other in others for problem in _collisions(plan, other)]
    if problems:
        raise Collision(problems)


def _collisions(plan: Plan, other: Instance) -> Iterator[Problem]:
    state, server = other.state, plan.profile.server
    who = f"the instance `{state.name}` (profile `{abbreviate(Path(state.profile))}`)"
    stop = f"or stop it: `kvtier stop {state.name}`"
    if state.has_address(server.host, server.port):
        what = f"port {server.port} is taken by {who}"
        yield Problem(what, f"set another port (0: any free one), {stop}", "server.port")
    for number, disk in enumerate(plan.disks):
        if os.path.realpath(disk.path) in state.directories:
            what = f"`{disk.path}` is used by {who}: a directory of L3 has one owner"
            hint = f"set another directory, {stop}"
            yield Problem(what, hint, f"tiers.l3.directories[{number}]")


@contextmanager
def _claiming() -> Iterator[None]:
    """One launcher at a time looks and claims, so that of two only the second is refused."""
    fd = os.open(run_root(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
