"""An instance: one profile as it is launched, and the folders that are its own."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from kvtier_ops.paths import xdg_home

# Unix socket paths have 107 bytes at most; the engine's socket names take up to 27 of them.
RUN_DIR_BYTES_MAX = 80


def instance_name(profile: Path) -> str:
    """`quickstart-1f2e3d4c`: readable, and different for files of the same name."""
    real = os.path.realpath(profile)
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", profile.stem)[:24]
    return f"{stem}-{hashlib.blake2b(os.fsencode(real), digest_size=4).hexdigest()}"


def run_root() -> Path:
    """Below $XDG_RUNTIME_DIR or, where there is none, $XDG_STATE_HOME/kvtier/run."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and Path(runtime).is_absolute() and os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime) / "kvtier"
    return xdg_home("XDG_STATE_HOME") / "kvtier" / "run"


def run_dir_of(profile: Path) -> Path:
    """Sockets, the engine's configuration and the launcher's state, while it runs."""
    return run_root() / instance_name(profile)


def has_long_name(run_dir: Path) -> bool:
    """Whether it leaves no room for the names of sockets."""
    return len(os.fsencode(run_dir)) > RUN_DIR_BYTES_MAX


def log_root() -> Path:
    """Logs outlive the run, so they are not in the run's folder."""
    return xdg_home("XDG_STATE_HOME") / "kvtier" / "log"


def log_path_of(profile: Path) -> Path:
    return log_root() / instance_name(profile) / "engine.log"


def state_dir_of(profile: Path) -> Path:
    """What the engine keeps from run to run."""
    return xdg_home("XDG_STATE_HOME") / "kvtier" / "state" / instance_name(profile)
