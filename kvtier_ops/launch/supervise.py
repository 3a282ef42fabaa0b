"""One engine from its start to its end: ready | exited | deadline, then signals passed on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from kvtier_ops.errors import EngineFailed, ExitCode, Interrupted, Refused
from kvtier_ops.launch.engine_log import EngineLog
from kvtier_ops.launch.engine_process import EngineProcess, Readiness, ask_ready
from kvtier_ops.launch.run_dir import RunDir
from kvtier_ops.launch.signals import StopSignals
from kvtier_ops.terminal import Terminal

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


@dataclass
class Supervisor:
    """Watches one engine. The arena's memory is the caller's, so another engine may follow."""

    engine: EngineProcess
    log: EngineLog
    run_dir: RunDir
    signals: StopSignals
    terminal: Terminal
    start_timeout_s: float
    drain_s: float

    def run(self, on_ready: Callable[[str, int], None]) -> int:
        """Serves until the engine ends as asked, and returns the exit code.

        Raises EngineFailed if it ends by itself, Refused if its start makes no progress.
        """
        address = self._until_ready()
        if address is None:
            return self._stop(was_ready=False)
        on_ready(*address)
        while self.signals.count == 0:
            if self.engine.status() is not None:
                raise self._failure("while serving")
            self.signals.wait(self.engine.fd, None)
        return self._stop(was_ready=True)

    def _until_ready(self) -> tuple[str, int] | None:
        """The address, or None if a signal came first."""
        deadline = time.monotonic() + self.start_timeout_s
        last: dict[str, tuple[int, int]] = {}
        with self.terminal.progress() as progress:
            while self.signals.count == 0:
                if self.engine.status() is not None:
                    break
                address = self.run_dir.address()
                found = ask_ready(*address) if address else None
                if address and found and found.is_ready:
                    self._show(progress.update, last, found)
                    return address
                if found and found.stages != last:
                    self._show(progress.update, last, found)
                    last = found.stages
                    deadline = time.monotonic() + self.start_timeout_s
                if time.monotonic() > deadline:
                    self.engine.kill()
                    raise self._deadline()
                self.signals.wait(self.engine.fd, POLL_S)
        if self.signals.count == 0:
            raise self._failure("before it was ready")
        return None

    def _show(
        self,
        update: Callable[[str, int, int], None],
        last: dict[str, tuple[int, int]],
        found: Readiness,
    ) -> None:
        """A stage that was under way when a ready engine answered is complete."""
        for name in {**last, **found.stages}:
            done, total = found.stages.get(name, last.get(name, (1, 1)))
            update(STAGES.get(name, name), total if found.is_ready else done, total)

    def _stop(self, *, was_ready: bool) -> int:
        """Passes every signal on, once each, until the engine has ended."""
        passed = 0
        deadline = time.monotonic() + self.drain_s + END_S_MAX
        while self.engine.status() is None:
            while passed < self.signals.count:
                passed += 1
                self._pass_on(passed, was_ready)
            left = deadline - time.monotonic()
            if left <= 0:
                self.terminal.note("the engine does not end: killing it")
                self.engine.kill()
                break
            self.signals.wait(self.engine.fd, left)
        status = self.engine.status()
        if not was_ready:
            raise Interrupted("stopped before it was ready")
        if passed >= 3 and status == -signal.SIGKILL:
            raise Interrupted("killed: what had not reached the disk is lost")
        if status != 0:
            raise self._failure("while it was stopping")
        self.terminal.note("stopped")
        return ExitCode.OK

    def _pass_on(self, number: int, was_ready: bool) -> None:
        if number >= 3:
            self.terminal.note("killing the engine")
            self.engine.kill()
            return
        if number == 2:
            self.terminal.note("hurrying: requests are ended now (once more kills the engine)")
        elif was_ready:
            self.terminal.note(
                f"draining: running requests have {self.drain_s:g} s (Ctrl-C again hurries)"
            )
        else:
            self.terminal.note("stopping")
        self.engine.terminate()

    def _failure(self, when: str) -> EngineFailed:
        """The engine's own words if it left any, else how it ended and its last lines."""
        status = self.engine.status()
        self.log.close()
        said = self.log.explanation()
        for line in self.log.tail(LOG_LINES_SHOWN):
            self.terminal.note(f"  | {line}")
        ended = f"the engine ended {when} ({describe(status)})"
        where = f"its log is `{self.log.path}`"
        if said is None:
            return EngineFailed(ended, where, explained=False)
        hint = f"{said.hint}; {where}" if said.hint else where
        return EngineFailed(f"{ended}: {said.what}", hint, explained=bool(said.hint))

    def _deadline(self) -> Refused:
        self.log.close()
        for line in self.log.tail(LOG_LINES_SHOWN):
            self.terminal.note(f"  | {line}")
        return Refused(
            f"the engine made no progress for {self.start_timeout_s:g} s and was killed",
            f"raise `server.start_timeout_s`, or read `{self.log.path}`",
        )


def describe(status: int | None) -> str:
    """`exit status 3` or `signal SIGKILL`."""
    if status is None or status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
