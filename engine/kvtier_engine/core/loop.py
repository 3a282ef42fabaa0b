"""The core's loop: take messages, step the engine, send what came of it."""

from __future__ import annotations

import logging
import time

import zmq

from kvtier_engine.core.connection import Connection
from kvtier_engine.core.engine import Engine
from kvtier_engine.core.rank_set import RankSet
from kvtier_engine.core.stats import collect
from kvtier_engine.messages import Abort, FinishReason, Generate, Output, Outputs, Shutdown

log = logging.getLogger(__name__)

STATS_INTERVAL_S = 1.0
CHECK_INTERVAL_S = 10.0  # at most so often, and only while nothing moves
FLUSH_S_MAX = 30.0  # how long a clean stop waits for the disk to take what L2 holds


class Loop:
    """Runs until a Shutdown; then hands to the disk what it does not have yet."""

    def __init__(self, connection: Connection, engine: Engine, ranks: RankSet) -> None:
        self._connection = connection
        self._engine = engine
        self._ranks = ranks
        self._stopping = False
        self._stats_due = 0.0
        self._check_due = 0.0
        self._was_quiet = False
        self._poller = zmq.Poller()
        self._poller.register(connection.socket, zmq.POLLIN)
        if engine.manager.disk is not None:
            self._poller.register(engine.manager.disk.event_fd(), zmq.POLLIN)

    def stop(self) -> None:
        """Ends `run` after the step under way. May be called from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        while not self._stopping:
            outputs = self._take_messages()
            busy, computed = self._engine.step()
            outputs += computed
            # Before the outputs: who has an answer finds the metrics that belong to it.
            self._report(busy, any(output.finish for output in outputs))
            self._connection.send_outputs(Outputs(outputs))
            if not busy and not self._stopping:
                self._rest()
        self._flush()

    def _take_messages(self) -> list[Output]:
        outputs = []
        for message in self._connection.receive():
            match message:
                case Generate():
                    self._engine.scheduler.add(message)
                case Abort(request_ids):
                    outputs += [
                        Output(request_id=request_id, finish=FinishReason.ABORTED)
                        for request_id in request_ids
                        if self._engine.scheduler.abort(request_id)
                    ]
                case Shutdown():
                    self.stop()
        return outputs

    def _report(self, busy: bool, ended: bool) -> None:
        """Statistics every second, when a request has ended, and when all has come to rest."""
        now = time.monotonic()
        quiet = not busy and self._engine.manager.idle
        fell_quiet = quiet and not self._was_quiet
        self._was_quiet = quiet
        if ended or fell_quiet or now >= self._stats_due:
            self._stats_due = now + STATS_INTERVAL_S
            self._ranks.check_alive()
            self._connection.send(collect(self._engine.scheduler, self._engine.manager))
        if fell_quiet and now >= self._check_due:
            self._check_due = now + CHECK_INTERVAL_S
            self._engine.scheduler.check()

    def _rest(self) -> None:
        """Sleeps until a message, a finished disk request, or the next statistics."""
        wait_s = max(0.0, self._stats_due - time.monotonic())
        self._poller.poll(int(wait_s * 1000) + 1)

    def _flush(self) -> None:
        manager = self._engine.manager
        deadline = time.monotonic() + FLUSH_S_MAX
        while not manager.idle and time.monotonic() < deadline:
            manager.poll()
            manager.offloads_done(self._ranks.offloads_done())
            self._poller.poll(10)
        if not manager.idle:
            log.warning("the disk is too slow: some pages of L2 are not written")
        if manager.disk is not None:
            manager.disk.close()
