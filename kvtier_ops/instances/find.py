"""Instances by name, by the beginning of a name, or by their profile."""

from __future__ import annotations

import os
from pathlib import Path

from kvtier_ops.errors import BadInput, Refused
from kvtier_ops.instance import instance_name, log_root, run_dir_of, run_root
from kvtier_ops.instances.state import Instance, Phase, read_state


class NotRunning(Refused):
    """There is such an instance or profile, but nothing serves it now."""


def all_instances() -> list[Instance]:
    """Every run folder with a state, by name; the launcher may be gone."""
    try:
        folders = sorted(path for path in run_root().iterdir() if path.is_dir())
    except OSError:
        return []
    found = ((folder, read_state(folder)) for folder in folders)
    return [Instance(folder, state) for folder, state in found if state is not None]


def instance_of(profile: Path) -> Instance | None:
    """The one whose launcher serves this very profile, or is about to."""
    run_dir = run_dir_of(profile)
    state = read_state(run_dir)
    found = Instance(run_dir, state) if state is not None else None
    return found if found is not None and found.is_alive else None


def serving(profile: Path) -> Instance | None:
    """The one that serves this very profile now; None also while its engine starts or ends."""
    found = instance_of(profile)
    return found if found is not None and found.phase is Phase.READY else None


def find_instance(which: str) -> Instance:
    """A profile's path, a name or the beginning of one. Raises BadInput or NotRunning."""
    name = name_of(which, [instance.state.name for instance in all_instances()])
    for instance in all_instances():
        if instance.state.name == name:
            return instance
    raise NotRunning(
        f"`{which}` is not running", "`kvtier ps` lists what runs; `kvtier launch` starts it"
    )


def name_of(which: str, names: list[str]) -> str:
    """The name that is meant, which may be a profile's that is not among `names`."""
    if which in names:
        return which
    path = Path(which)
    found = [name for name in names if which and name.startswith(which)]
    if os.path.isfile(path) and (instance_name(path) in names or not found):
        return instance_name(path)
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(f"`{which}` may be {_listed(found)}", "write more of the name")
    by_path = instance_name(path)  # the file may have gone since
    if by_path in names:
        return by_path
    if path.suffix in (".yaml", ".yml") or os.sep in which:
        raise BadInput(f"there is no profile `{which}`", "`kvtier ps` lists what runs")
    raise NotRunning(f"no instance is called `{which}`", "`kvtier ps` lists what runs")


def find_log(which: str) -> Path:
    """The log of an instance, also of one that has ended. Raises BadInput or Refused."""
    try:
        kept = sorted(path.name for path in log_root().iterdir() if path.is_dir())
    except OSError:
        kept = []
    running = {each.state.name: each.state.log for each in all_instances()}
    name = name_of(which, sorted({*kept, *running}))
    path = Path(running.get(name) or log_root() / name / "engine.log")
    if not path.exists():
        raise NotRunning(f"`{which}` has no log", "`kvtier launch` starts it, and writes one")
    return path


def _listed(names: list[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)
