"""Keeps a profile served: starts its engine, again after a crash, and as it is told to."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from kvtier_ops import notify
from kvtier_ops.errors import EngineFailed, ExitCode, HostError, Interrupted, KvtierError, Refused
from kvtier_ops.instances import Phase
from kvtier_ops.instances.leftovers import end_processes
from kvtier_ops.launch import engine_process
from kvtier_ops.launch.arena import create_arena
from kvtier_ops.launch.control_socket import ControlSocket
from kvtier_ops.launch.engine_log import EngineLog
from kvtier_ops.launch.engine_process import EngineProcess, url_of
from kvtier_ops.launch.host_tuning import Tuning
from kvtier_ops.launch.record import Record
from kvtier_ops.launch.restarts import Restarts
from kvtier_ops.launch.run_dir import RunDir
from kvtier_ops.launch.served import Served
from kvtier_ops.launch.signals import StopSignals
from kvtier_ops.launch.supervise import Supervisor, Surroundings, describe
from kvtier_ops.terminal import Terminal

Address = tuple[str, int]
_READY_SOON = "try again when `kvtier ps` says `ready`"
_STARTING = Refused("the engine is starting", _READY_SOON)
_STOPPING = Refused("the launcher is being stopped", "when it has ended, `kvtier launch` it again")


@dataclass(frozen=True)
class Means:
    """What a keeper works with; the caller's, who closes it."""

    run_dir: RunDir
    record: Record
    log: EngineLog
    signals: StopSignals
    control: ControlSocket
    terminal: Terminal
    tuning: Tuning


class Keeper:
    """One launch. It owns L2's memory, which engines come and go with; nothing outlives it."""

    def __init__(self, served: Served, means: Means) -> None:
        self.served = served
        self.means = means
        self._restarts = Restarts(served.profile.server)
        self._arena_fd = _arena(served)
        self._now: Supervisor | None = None
        self._busy = _STARTING  # why an order cannot be carried out now
        self.overhear: Callable[[str], None] | None = None  # who gave the order under way
        self._around = Surroundings(
            log=means.log,
            run_dir=means.run_dir,
            signals=means.signals,
            terminal=means.terminal,
            say=self.say,
            control_fd=means.control.fd,
            refuse_orders=lambda: means.control.refuse(self._busy),
        )

    @property
    def now(self) -> Supervisor:
        assert self._now is not None, "an engine has been started"
        return self._now

    def say(self, text: str) -> None:
        """To the terminal, to whoever gave an order, and to the log."""
        with contextlib.suppress(OSError):  # a terminal that has hung up
            self.means.terminal.note(text)
        if self.overhear is not None:
            self.overhear(text)
        bare = text.removeprefix("warning: ")
        self.means.log.event("info" if bare == text else "warning", bare)

    def run(self, on_ready: Callable[[Address], None], obey: Callable[[], None]) -> int:
        """Serves until it is asked to stop; the exit code. `obey` carries out a waiting order.

        Raises Interrupted if it is stopped before the first engine was ready, EngineFailed and
        Refused for what ends a launch.
        """
        address = self.start()
        if address is None:
            self._stopping()
            self.now.stop()
            raise Interrupted("stopped before it was ready")
        on_ready(address)
        while not self.means.signals.count:
            if self._now is None or self._now.engine.status() is not None:
                if not self._revive():
                    break
                continue
            fds = (self.now.engine.fd, self.means.control.fd)
            if self.means.control.fd in self.means.signals.wait(fds, None):
                obey()
        return self._stop()

    def close(self) -> None:
        """Ends what still runs, and gives L2's memory back."""
        self.end_engine()
        if self._arena_fd is not None:
            os.close(self._arena_fd)
            self._arena_fd = None

    def start(self) -> Address | None:
        """Starts an engine and waits until it is ready; None if a signal came first."""
        served, means = self.served, self.means
        server, environment = served.profile.server, served.profile.engine.environment
        self._busy = _STARTING
        means.log.set_up(server.log_format, server.log_level)
        config = served.config(means.run_dir.path, self._arena_fd)
        try:
            path = means.run_dir.write_config(config.model_dump_json(indent=2))
            command = engine_process.engine_command(path)
            engine = EngineProcess(command, self._arena_fd, environment)
        except OSError as error:
            hint = f"see the space in `{means.run_dir.path}`, memory, and `ulimit -u`"
            raise HostError(f"the engine cannot be started: {error.strerror}", hint) from error
        self._now = Supervisor(engine, self._around, server.start_timeout_s, server.drain_s)
        means.log.event("info", f"started: {served.plan.served_name}, engine pid {engine.pid}")
        means.log.follow(engine.output)
        means.record.update(engine_pid=engine.pid)
        address = self._now.until_ready()
        if address is not None:
            self.served = replace(served, port=address[1])
            url = url_of(*address)
            means.record.update(state=Phase.READY, url=url, port=address[1])
            means.log.event("info", f"ready: {url}/v1")
            notify.ready(f"serving {served.plan.served_name} at {url}/v1")
        return address

    def end_engine(self) -> None:
        """Returns when no process of the engine is left: its locks and its memory are free."""
        if self._now is None:
            return
        engine, self._now = self._now.engine, None
        engine.kill()
        self.means.log.join()
        end_processes(self.means.run_dir.path)
        engine.close()
        (self.means.run_dir.path / "address").unlink(missing_ok=True)

    def replace_engine(self, served: Served) -> Address:
        """Drains the engine and starts one for `served`, with L2's memory as it is.

        Raises Interrupted if a signal comes meanwhile, else what `start` raises.
        """
        self._busy = Refused("the engine is being replaced", _READY_SOON)
        self._record(Phase.DRAINING)
        if not self.now.drain():
            raise Interrupted("the launcher is being stopped")
        if self.now.engine.status() not in (0, None):
            self.say(f"the engine did not end well ({describe(self.now.engine.status())})")
        self.means.log.event("info", "drained")
        return self.start_for(served)

    def start_for(self, served: Served) -> Address:
        """Starts an engine for `served` in the place of one that has ended or did not start."""
        self.end_engine()
        self._record(Phase.RESTARTING)
        if _needs_other_arena(self.served, served):
            if self._arena_fd is not None:
                os.close(self._arena_fd)
            self._arena_fd = None
            self._arena_fd = _arena(served)
        self.served = served
        address = self.start()
        if address is None:
            raise Interrupted("the launcher is being stopped")
        return address

    def adopt_limits(self, served: Served) -> None:
        """Takes over what only the launcher itself goes by."""
        self.served = served
        server = served.profile.server
        restarts = Restarts(server)
        restarts.take_over(self._restarts)
        self._restarts = restarts
        self.means.log.set_up(server.log_format, server.log_level)
        if self._now is not None:
            self._now.start_timeout_s, self._now.drain_s = server.start_timeout_s, server.drain_s

    def _revive(self) -> bool:
        """Starts engines until one is ready; False if a signal comes first.

        Raises EngineFailed when the limit is reached.
        """
        failure: KvtierError = HostError("no engine could be started")
        if self._now is not None:
            failure = self._now.failure()
        while True:
            self.end_engine()
            record = self.means.record
            delay = self._restarts.delay(time.monotonic())
            if delay is None:
                raise self._given_up(failure)
            record.update(
                state=Phase.RESTARTING,
                engine_pid=None,
                restarts=record.state.restarts + 1,
                last_end=f"{time.strftime('%Y-%m-%d %H:%M:%S')}: {failure}",
            )
            self.say(f"warning: {failure}; starting it again in {delay:g} s")
            if not self._pause(delay):
                return False
            try:
                if self.start() is None:
                    return False
            except (EngineFailed, Refused) as error:
                failure = error
                continue
            count = record.state.restarts
            self.say(f"serving again, after {count} restart{'s' * (count != 1)} in all")
            return True

    def _given_up(self, failure: KvtierError) -> KvtierError:
        """The last failure, and why there is no further restart."""
        limit, window = self._restarts.limit, self._restarts.window_s
        if not limit:
            return failure
        [problem] = failure.problems
        what = f"{problem.what}; it was restarted {_times(limit)} within {window:g} s"
        hint = f"mend that, or raise `server.restart_limit`; {problem.hint}"
        return EngineFailed(what, hint, explained=failure.exit_code == ExitCode.REFUSED)

    def _pause(self, seconds: float) -> bool:
        """False if a signal ends it early."""
        self._busy = Refused("the engine ended by itself, and is started again soon", _READY_SOON)
        deadline = time.monotonic() + seconds
        while not self.means.signals.count and (left := deadline - time.monotonic()) > 0:
            self._around.wait((), left)
        return not self.means.signals.count

    def _stop(self) -> int:
        self._stopping()
        notify.stopping("draining")
        if self._now is not None:
            self._now.stop()
            self.means.log.join()  # the engine's last words come before ours
        self.say("stopped")
        return ExitCode.OK

    def _stopping(self) -> None:
        self._busy = _STOPPING
        self._record(Phase.STOPPING)

    def _record(self, phase: Phase) -> None:
        self.means.record.update(state=phase)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _arena(served: Served) -> int | None:
    l2 = served.plan.l2
    return create_arena(served.plan.profile.tiers.l2.hugepages) if l2.pages else None


def _needs_other_arena(old: Served, new: Served) -> bool:
    kinds = [(bool(s.plan.l2.pages), s.plan.profile.tiers.l2.hugepages) for s in (old, new)]
    return kinds[0] != kinds[1]
