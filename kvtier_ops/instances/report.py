"""Instances as a table, as lines and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kvtier_ops.instances.leftovers import engine_processes
from kvtier_ops.instances.state import Instance, Phase, now
from kvtier_ops.paths import abbreviate
from kvtier_ops.text import printable

_COLUMNS = ("NAME", "STATE", "UP", "RESTARTS", "ADDRESS")
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def table(instances: Sequence[Instance]) -> str:
    """A line for each, under a heading; nothing is cut off."""
    rows = [_COLUMNS, *map(_row, instances)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(instance: Instance) -> tuple[str, ...]:
    state = instance.state
    is_dead = instance.phase is Phase.DEAD
    up = "-" if is_dead else age(now() - state.started)
    return state.name, instance.phase, up, str(state.restarts), state.address or "-"


def age(seconds: float) -> str:
    """`2d3h`, `5m`, `12s`: the two largest units that are not zero."""
    left = max(0, int(seconds))
    parts = []
    for unit, size in _UNITS:
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
    return "".join(parts[:2]) or "0s"


def status(instance: Instance) -> str:
    """Everything about one, a line each."""
    state, phase = instance.state, instance.phase
    is_dead = phase is Phase.DEAD
    served = f"{state.model} at {state.url}/v1" if state.url else state.model
    lines = [
        ("name", state.name),
        ("state", f"{phase} for {age(now() - state.since)}" if not is_dead else _dead(instance)),
        ("served" if is_dead else "serves", served),
        ("profile", abbreviate(Path(state.profile))),
        ("set", " ".join(state.overrides)),
        ("up", age(now() - state.started) if not is_dead else ""),
        ("launcher", f"{'was ' * is_dead}pid {state.pid}{', detached' * state.detached}"),
        ("engine", _dead_engine(instance) if is_dead else _pid(state.engine_pid)),
        ("restarts", str(state.restarts)),
        ("last end", state.last_end),
        ("L3", ", ".join(abbreviate(Path(path)) for path in state.directories)),
        ("log", abbreviate(Path(state.log)) if state.log else ""),
        ("kvtier", state.kvtier),
    ]
    return "\n".join(f"{name:<10}{printable(text)}" for name, text in lines if text)


def _dead(instance: Instance) -> str:
    was = f"its launcher was killed while it was {instance.state.state}"
    return f"dead: {was}; the next launch cleans up, or `kvtier ps --clean`"


def _dead_engine(instance: Instance) -> str:
    """One that hangs in a driver can outlive its launcher."""
    if left := engine_processes(instance.run_dir):
        return f"has outlived it: pid {', '.join(map(str, left))}"
    pid = _pid(instance.state.engine_pid)
    return pid and f"was {pid}"


def _pid(pid: int | None) -> str:
    return f"pid {pid}" if pid else ""


def as_json(instance: Instance) -> dict[str, Any]:
    """The state file's fields, with what is so now."""
    return {**asdict(instance.state), "state": instance.phase, "run_dir": str(instance.run_dir)}
