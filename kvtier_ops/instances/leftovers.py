"""What a launcher that was killed can leave: processes of its engine, files in its run folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from pathlib import Path

from kvtier_ops.errors import HostError
from kvtier_ops.instances.state import Instance, read_state

CONFIG_FILE = "config.json"
LOCK_FILE = "lock"
_END_S = 30.0  # for killed processes; the kernel gives their memory back meanwhile


def engine_processes(run_dir: Path) -> list[int]:
    """Our user's processes that were started with this folder's configuration, whoever is their
    parent."""
    option = b"\0--config\0" + os.fsencode(run_dir / CONFIG_FILE) + b"\0"
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            is_ours = entry.stat().st_uid == os.geteuid()
            if is_ours and option in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def end_processes(run_dir: Path) -> list[int]:
    """Kills them and waits until they are gone: only then are locks and memory free.
    Raises HostError if one does not go."""
    ended: list[int] = []
    deadline = time.monotonic() + _END_S
    while pids := engine_processes(run_dir):
        ended += [pid for pid in pids if pid not in ended]
        for pid in pids:
            _end(pid, deadline)
        if time.monotonic() > deadline:
            raise HostError(
                f"processes of an earlier engine do not end: {', '.join(map(str, pids))}",
                "a disk or a driver that hangs holds them: see `ps -o pid,stat,wchan,args` and "
                "`dmesg`",
            )
    return ended


def _end(pid: int, deadline: float) -> None:
    """By a descriptor of the process, so that no other is killed that has its number since."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(ChildProcessError):  # ours only in the launcher itself
            os.waitpid(pid, os.WNOHANG)
    finally:
        os.close(fd)


def remove_files(run_dir: Path) -> list[str]:
    """All but the lock and folders; their names."""
    removed = []
    for entry in sorted(run_dir.iterdir()):
        if entry.name != LOCK_FILE and not entry.is_dir():
            entry.unlink(missing_ok=True)
            removed.append(entry.name)
    return removed


def clean_run_dir(run_dir: Path) -> str:
    """Called by the owner of the lock. A sentence about what was there, empty for nothing."""
    state = read_state(run_dir)
    ended = end_processes(run_dir)
    removed = remove_files(run_dir)
    if not ended and not removed:
        return ""
    who = f" (pid {state.pid})" if state is not None else ""
    parts = []
    if ended:
        parts.append(f"ended the engine's processes {', '.join(map(str, ended))}")
    if removed:
        parts.append(f"removed {', '.join(removed)}")
    return f"cleaned up after a launcher that was killed{who}: {'; '.join(parts)}"


def clean_dead(instance: Instance) -> str:
    """`clean_run_dir` if nobody has the lock; else somebody else is just doing it."""
    fd = os.open(instance.run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return clean_run_dir(instance.run_dir)
    except BlockingIOError:
        return ""
    finally:
        os.close(fd)
