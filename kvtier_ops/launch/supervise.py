"""One engine from its start to its end: ready | exited | deadline, then signals passed on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from kvtier_ops import notify
from kvtier_ops.errors import EngineFailed, Interrupted, KvtierError, Refused
from kvtier_ops.launch.engine_log import EngineLog
from kvtier_ops.launch.engine_process import EngineProcess, Readiness, ask_ready
from kvtier_ops.launch.run_dir import RunDir
from kvtier_ops.launch.signals import StopSignals
from kvtier_ops.terminal import Terminal
from kvtier_ops.units import format_bytes

POLL_S = 0.1
LOG_LINES_SHOWN = 15
# The engine gives its disk 60 s after the drain; later it hangs.
END_S_MAX = 90.0

STAGES = {
    "convert": "convert model",
    "model": "load model",
    "l1": "L1",
    "l2": "L2 memory",
    "l3": "L3 recovery",
    "warmup": "warm up",
}


class Say(Protocol):
    """Tells the operator, and the log."""

    def __call__(self, text: str) -> None: ...


@dataclass
class Surroundings:
    """What all engines of a launch have in common."""

    log: EngineLog
    run_dir: RunDir
    signals: StopSignals
    terminal: Terminal
    say: Say
    control_fd: int
    refuse_orders: Callable[[], None]  # called when `control_fd` is readable and nobody has time

    def wait(self, fds: tuple[int, ...], timeout_s: float) -> None:
        """Until one of `fds` is readable, a signal has come, or time is up."""
        if self.control_fd in self.signals.wait((*fds, self.control_fd), timeout_s):
            self.refuse_orders()


@dataclass
class Supervisor:
    """Watches one engine. The arena's memory is the caller's, so another engine may follow."""

    engine: EngineProcess
    around: Surroundings
    start_timeout_s: float
    drain_s: float
    is_ready: bool = field(default=False, init=False)
    _is_asked: bool = field(default=False, init=False)  # to end, by `drain`

    def until_ready(self) -> tuple[str, int] | None:
        """The address, or None if a signal came first.

        Raises EngineFailed if the engine ends by itself, Refused if it makes no progress.
        """
        around = self.around
        deadline = time.monotonic() + self.start_timeout_s
        last: dict[str, tuple[int, int]] = {}
        with around.terminal.progress() as progress:
            while around.signals.count == 0:
                if self.engine.status() is not None:
                    break
                address = around.run_dir.address()
                found = ask_ready(*address) if address else None
                if address and found and found.is_ready:
                    self._show(progress.update, last, found)
                    self._say_untouched(*found.stages.get("l2", (0, 0)))
                    self.is_ready = True
                    return address
                if found and found.stages != last:
                    self._show(progress.update, last, found)
                    last = found.stages
                    deadline = time.monotonic() + self.start_timeout_s
                    notify.starting(_furthest(last), self.start_timeout_s + POLL_S)
                if time.monotonic() > deadline:
                    self.engine.kill()
                    raise self._deadline()
                around.wait((self.engine.fd,), POLL_S)
        if around.signals.count == 0:
            raise self.failure()
        return None

    def _show(
        self,
        update: Callable[[str, int, int], None],
        last: dict[str, tuple[int, int]],
        found: Readiness,
    ) -> None:
        """A stage that was under way when a ready engine answered is complete, all but L2's memory:
        no engine waits for that."""
        for name in {**last, **found.stages}:
            done, total = found.stages.get(name, last.get(name, (1, 1)))
            is_complete = found.is_ready and name != "l2"
            update(STAGES.get(name, name), total if is_complete else done, total)

    def _say_untouched(self, done: int, total: int) -> None:
        if done < total:
            self.around.say(
                f"{format_bytes(done)} of L2's {format_bytes(total)} are touched by now, the rest "
                "while it serves"
            )

    def drain(self) -> bool:
        """Lets running requests end, and the engine with them; False if a signal came."""
        self._ask(f"draining: running requests have {self.drain_s:g} s")
        deadline = time.monotonic() + self.drain_s + END_S_MAX
        while self.engine.status() is None and self.around.signals.count == 0:
            left = deadline - time.monotonic()
            if left <= 0:
                self._hung()
                break
            self.around.wait((self.engine.fd,), left)
        return self.around.signals.count == 0

    def stop(self) -> None:
        """Passes every signal on, once each, until the engine has ended.

        Raises EngineFailed if one that was ready did not end well, Interrupted if it was killed.
        """
        passed = 0
        around = self.around
        deadline = time.monotonic() + self.drain_s + END_S_MAX
        while self.engine.status() is None:
            while passed < around.signals.count:
                passed += 1
                self._pass_on(passed)
            left = deadline - time.monotonic()
            if left <= 0:
                self._hung()
                break
            around.wait((self.engine.fd,), left)
        status = self.engine.status()
        if self.is_ready and passed >= 3 and status == -signal.SIGKILL:
            raise Interrupted("killed: what had not reached the disk is lost")
        if self.is_ready and status != 0:
            raise self.failure("while it was stopping")

    def _pass_on(self, number: int) -> None:
        if number >= 3:
            self.around.say("killing the engine")
            self.engine.kill()
        elif number == 2:
            self.around.say("hurrying: requests are ended now (once more kills the engine)")
            self.engine.hurry()
        elif not self._is_asked:
            self._ask(
                f"draining: running requests have {self.drain_s:g} s (Ctrl-C again hurries)"
                if self.is_ready
                else "stopping"
            )

    def _ask(self, text: str) -> None:
        self._is_asked = True
        self.around.say(text)
        self.engine.terminate()

    def _hung(self) -> None:
        self.around.say("the engine does not end: killing it")
        self.engine.kill()

    def failure(self, when: str = "") -> EngineFailed:
        """The engine's own words if it left any, else how it ended and its last lines."""
        log = self.around.log
        log.join()
        said = log.explanation()
        for line in log.tail(LOG_LINES_SHOWN):
            self.around.terminal.note(f"  | {line}")
        when = when or ("while serving" if self.is_ready else "before it was ready")
        ended = f"the engine ended {when} ({describe(self.engine.status())})"
        where = f"its log is `{log.path}`"
        if said is None:
            return EngineFailed(ended, where, explained=False)
        hint = f"{said.hint}; {where}" if said.hint else where
        return EngineFailed(f"{ended}: {said.what}", hint, explained=bool(said.hint))

    def _deadline(self) -> KvtierError:
        log = self.around.log
        log.join()
        for line in log.tail(LOG_LINES_SHOWN):
            self.around.terminal.note(f"  | {line}")
        return Refused(
            f"the engine made no progress for {self.start_timeout_s:g} s and was killed",
            f"raise `server.start_timeout_s`, or read `{log.path}`",
        )


def _furthest(stages: dict[str, tuple[int, int]]) -> str:
    """The stage that began last, for systemd."""
    name, (done, total) = list(stages.items())[-1] if stages else ("", (0, 0))
    return f"starting: {STAGES.get(name, name)} {100 * done // total if total else 100}%"


def describe(status: int | None) -> str:
    """`exit status 3` or `signal SIGKILL`."""
    if status is None or status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
