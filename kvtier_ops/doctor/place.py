"""Where this runs: in a container, what may be changed is outside; elsewhere it is a command."""

from __future__ import annotations

import os
from pathlib import Path

from kvtier_ops.doctor.check import Context
from kvtier_ops.host.container import container_of
from kvtier_ops.host.mounts import MountTable
from kvtier_ops.tune.rights import kvtier_as_root

_UNIT = "INVOCATION_ID"  # systemd sets it for what a unit runs


def in_container(root: Path) -> bool:
    """By what runtimes leave, or as /sys is read-only, which it is in a unit of systemd as well."""
    return bool(container_of(root)) or not (may_write(root, "sys") or _UNIT in os.environ)


def outside(root: Path) -> str:
    """Where what may not be written here can be changed."""
    return f"outside the {'container' if in_container(root) else 'unit'}, on the host"


def may_write(root: Path, name: str) -> bool:
    """False for a file below a mount that is read-only, whoever asks; `name` has no first slash."""
    mounts = MountTable(root)
    options = mounts.options_at(Path("/") / name)
    return "ro" not in options


def write_fix(context: Context, value: str, *files: str, tuned: bool = False) -> str:
    """How to write `value` to files of /proc or /sys. `tuned`: `kvtier tune` does it as well."""
    names = " ".join(files)
    command = f"`echo {value} | sudo tee {names}`"
    if not may_write(context.root, files[0].lstrip("/")):
        return f"{outside(context.root)}: {command}"
    return f"`{tune_command(context)}`, or {command}" if tuned else command


def tune_command(context: Context) -> str:
    """What root is to type: with the place of `kvtier`, where that is known."""
    return kvtier_as_root(["tune", str(context.path) if context.path else "PROFILE"])


def limit_fix(context: Context, *, prlimit: str, systemd: str, docker: str = "") -> str:
    """How to raise a limit of processes, also the hard one, which `ulimit` raises for root alone.
    `docker`: its option, if it has one."""
    shell = f"`sudo prlimit --pid $$ {prlimit}`"
    if in_container(context.root):
        start = f"start the container with `{docker}` (Kubernetes: in the node's container runtime)"
        runtime = f"`{systemd}` in the systemd unit of the container runtime"
        return (
            f"outside, {start if docker else runtime}; without a container {shell}, or "
            f"`{systemd}` in the systemd unit"
        )
    return f"{shell} in the shell that launches, or `{systemd}` in the systemd unit"
