"""Stops a launcher from outside, as Ctrl-C does from its terminal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kvtier_ops.instances.find import NotRunning
from kvtier_ops.instances.leftovers import clean_dead
from kvtier_ops.instances.state import Instance, Phase, State, now, read_state

# After the drain the tiers are flushed: the launcher itself gives that 90 s. Then it ends what is
# left of the engine, which may take 30 s, and puts back what it changed on the host.
END_S = 90.0 + 30.0 + 40.0
KILL_S = 10.0
NOTICE_S = 5.0  # for the launcher to say that it is stopping
POLL_S = 0.02


def stop(instance: Instance, timeout_s: float | None, note: Callable[[str], None]) -> None:
    """Drains, then hurries, then kills, and returns when the launcher is gone.

    `timeout_s`: what running requests have, if that is less than the profile's `server.drain_s`,
    after which the engine itself ends them. Raises NotRunning if it was killed.
    """
    # Others may have been stopped since it was found: this one may be stopping by now.
    instance = replace(instance, state=read_state(instance.run_dir) or instance.state)
    state = instance.state
    try:
        fd = os.pidfd_open(state.pid)
    except ProcessLookupError:
        fd = -1
    try:
        # Looked at with the descriptor open: from here on the number is this process's.
        if fd < 0 or not instance.is_alive:
            if instance.has_ended_well:
                note(f"{state.name} has ended meanwhile")
                return
            raise NotRunning(
                f"`{state.name}` is dead: its launcher was killed (pid {state.pid})",
                "`kvtier ps --clean` removes what it left",
            )
        _stop(fd, instance, timeout_s, note)
    finally:
        if fd >= 0:
            os.close(fd)
    if (instance.run_dir / "state.json").exists() and (left := clean_dead(instance)):
        note(left)


def _stop(
    fd: int, instance: Instance, timeout_s: float | None, note: Callable[[str], None]
) -> None:
    if instance.state.state is Phase.STOPPING:
        if _join(fd, instance.state, timeout_s, note) or _hurry(fd, note):
            return
    else:
        drain_s = instance.state.drain_s
        drain_s = drain_s if timeout_s is None else min(timeout_s, drain_s)
        note(f"stopping {instance.state.name}: running requests have {drain_s:g} s")
        if _signal_until_noticed(fd, instance.run_dir) or _has_ended(fd, drain_s):
            return
        if _hurry(fd, note):
            return
    note("it does not end: killing the engine")
    if _signal_and_wait(fd, signal.SIGTERM, KILL_S):
        return
    note("it still does not end: killing the launcher")
    _signal_and_wait(fd, signal.SIGKILL, KILL_S)


def _join(fd: int, state: State, timeout_s: float | None, note: Callable[[str], None]) -> bool:
    """Waits for a stop that is under way: its own signals hurry it, and ours would be the third,
    which kills the engine. Whether it has ended before it has to be hurried."""
    left = time_left(state)
    drain_s = left if timeout_s is None else min(timeout_s, left)
    has = f"have {round(drain_s, 1):g} s more" if drain_s else "have had their time"
    note(f"{state.name} is being stopped already: running requests {has}")
    return _has_ended(fd, drain_s + END_S if drain_s == left else drain_s)


def time_left(state: State) -> float:
    """Of the drain of one that is stopping: it began when the state did."""
    return max(0.0, state.drain_s - max(0.0, now() - state.since))


def _hurry(fd: int, note: Callable[[str], None]) -> bool:
    note("running requests are ended now")
    return _signal_and_wait(fd, signal.SIGTERM, END_S)


def _signal_until_noticed(fd: int, run_dir: Path) -> bool:
    """Of two signals that come at once the kernel may deliver one. Whether it has ended."""
    deadline = time.monotonic() + NOTICE_S
    ended = _signal_and_wait(fd, signal.SIGTERM, 0)
    while not ended and time.monotonic() < deadline:
        state = read_state(run_dir)
        if state is not None and state.state is Phase.STOPPING:
            break
        ended = _has_ended(fd, POLL_S)
    return ended


def _signal_and_wait(fd: int, number: signal.Signals, timeout_s: float) -> bool:
    """Whether the process has ended within the time."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(fd, number)
    return _has_ended(fd, timeout_s)


def _has_ended(fd: int, timeout_s: float) -> bool:
    return bool(select.select([fd], [], [], timeout_s)[0])
