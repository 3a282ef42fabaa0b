"""Checks of the folders that a launch makes for itself: without them it does not start."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.doctor.folders import usable
from kvtier_ops.instance import (
    RUN_DIR_BYTES_MAX,
    has_long_name,
    log_path_of,
    run_dir_of,
    state_dir_of,
)
from kvtier_ops.paths import xdg_home

_STATE_ELSEWHERE = "set XDG_STATE_HOME to a folder that you may write to"
_SHORT = "with a short name: `mkdir -m 700 /tmp/kv && export XDG_RUNTIME_DIR=/tmp/kv`"


def state_writable(context: Context) -> Iterator[Outcome]:
    """Logs and what is kept from run to run, below $XDG_STATE_HOME/kvtier."""
    if context.path is None:
        return
    top, log = xdg_home("XDG_STATE_HOME") / "kvtier", log_path_of(context.path)
    current = fix = ""
    for folder in (log.parent, state_dir_of(context.path)):
        current, fix = usable(folder, _STATE_ELSEWHERE, "chown -R")
        if fix:
            break
    if not fix and os.path.exists(log) and not os.access(log, os.W_OK):
        current = f"`{log}` cannot be written by uid {os.geteuid()}"
        fix = f"remove it, or {_STATE_ELSEWHERE}"
    yield Outcome(
        ok=not fix,
        required="can be written, or made",
        current=current,
        fix=fix,
        subject=f"`{top}`",
        reason="the log is written there, and what `kvtier cache clear --tenant` did",
    )


def run_folder_usable(context: Context) -> Iterator[Outcome]:
    """Sockets lie there, whose names have limits."""
    if context.path is None:
        return
    path = run_dir_of(context.path)
    current, fix = _run_folder(path)
    yield Outcome(
        ok=not fix,
        required=f"can be written, or made; a name of {RUN_DIR_BYTES_MAX} bytes at most",
        current=current,
        fix=fix,
        subject=f"`{path}`",
        reason="the engine's sockets lie there, and the names of sockets are short",
    )


def _run_folder(path: Path) -> tuple[str, str]:
    if has_long_name(path):
        return (
            f"a name of {len(os.fsencode(path))} bytes",
            f"set XDG_RUNTIME_DIR, for every kvtier command, to a folder {_SHORT}",
        )
    other = "set XDG_RUNTIME_DIR to a folder that you may write to"
    try:
        found = path.lstat()
    except OSError:
        return usable(path, other)
    if not stat.S_ISDIR(found.st_mode):
        return "not a directory", f"remove it, or {other}"
    if found.st_uid != os.geteuid():
        return f"belongs to somebody else, uid {found.st_uid}", other
    return usable(path, other)


CHECKS = (
    Check(
        "KVT-D503",
        "server",
        "state folder",
        Severity.FAILURE,
        state_writable,
        needs=Needs.PROFILE,
        passes="the folders of logs and state, below $XDG_STATE_HOME/kvtier, can be written",
        why="The launcher writes the engine's log from the first line on, and does not start "
        "without one; what was cleared of a tenant and what was measured are kept there from run "
        "to run. A home that is read-only, or a folder that root has made, is in the way. The fix "
        "gives the folder to the user who launches, or names another.",
    ),
    Check(
        "KVT-D504",
        "server",
        "run folder",
        Severity.FAILURE,
        run_folder_usable,
        needs=Needs.PROFILE,
        passes="the run folder can be written or made, and its name leaves room for sockets",
        why="Launcher and engine meet at sockets in a folder below $XDG_RUNTIME_DIR or, where "
        "that is not set or not ours, below the state folder. The kernel takes names of 107 bytes "
        "for a socket, so that a long path is in the way of every launch. The fix names a folder "
        "with a short name; `kvtier ps` and `stop` need the same one.",
    ),
)
