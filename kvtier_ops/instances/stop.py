"""Stops a launcher from outside, as Ctrl-C does from its terminal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable

from kvtier_ops.instances.find import NotRunning
from kvtier_ops.instances.leftovers import clean_dead
from kvtier_ops.instances.state import Instance

# After the drain the tiers are flushed; the launcher itself gives that 90 s.
FLUSH_S = 95.0
KILL_S = 10.0


def stop(instance: Instance, timeout_s: float | None, note: Callable[[str], None]) -> None:
    """Drains, then hurries, then kills, and returns when the launcher is gone.

    `timeout_s`: what running requests have, in the place of the profile's `server.drain_s`.
    Raises NotRunning if it is gone already.
    """
    state = instance.state
    try:
        fd = os.pidfd_open(state.pid)
    except ProcessLookupError:
        fd = -1
    try:
        # Looked at with the descriptor open: from here on the number is this process's.
        if fd < 0 or not instance.is_alive:
            raise NotRunning(
                f"`{state.name}` is dead: its launcher was killed (pid {state.pid})",
                "`kvtier ps --clean` removes what it left",
            )
        _stop(fd, state.drain_s if timeout_s is None else timeout_s, state.name, note)
    finally:
        if fd >= 0:
            os.close(fd)
    if (instance.run_dir / "state.json").exists() and (left := clean_dead(instance)):
        note(left)


def _stop(fd: int, drain_s: float, name: str, note: Callable[[str], None]) -> None:
    note(f"stopping {name}: running requests have {drain_s:g} s")
    if _signal_and_wait(fd, signal.SIGTERM, drain_s):
        return
    note("running requests are ended now")
    if _signal_and_wait(fd, signal.SIGTERM, FLUSH_S):
        return
    note("it does not end: killing the engine")
    if _signal_and_wait(fd, signal.SIGTERM, KILL_S):
        return
    note("it still does not end: killing the launcher")
    _signal_and_wait(fd, signal.SIGKILL, KILL_S)


def _signal_and_wait(fd: int, number: signal.Signals, timeout_s: float) -> bool:
    """Whether the process has ended within the time."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(fd, number)
    return bool(select.select([fd], [], [], timeout_s)[0])
