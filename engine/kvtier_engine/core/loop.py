"""The core's loop: take messages, step the engine, send what came of it."""

from __future__ import annotations

import logging
import time

import zmq

from kvtier_engine.core.connection import Connection
from kvtier_engine.core.control import ControlDesk
from kvtier_engine.core.disk_watch import DiskWatch
from kvtier_engine.core.engine import Engine
from kvtier_engine.core.host_memory import HostMemory
from kvtier_engine.core.rank_set import RankSet
from kvtier_engine.core.stats import collect, out_of_use
from kvtier_engine.core.tier_changes import TierChanges
from kvtier_engine.messages import (
    Abort,
    Control,
    ControlReply,
    FinishReason,
    Generate,
    Output,
    Outputs,
    Shutdown,
)
from kvtier_store import StoreError

log = logging.getLogger(__name__)

STATS_INTERVAL_S = 1.0
CHECK_INTERVAL_S = 10.0  # at most so often, only while nothing moves; and at the end
GAP_S = 0.02  # how long a disk is waited for before it is thought about again
CHANGE_S_MAX = 20.0  # a clean stop waits no longer for a change of L3
FLUSH_S_MAX = 30.0  # how long a clean stop waits for the disk to take what L2 holds


class Loop:
    """Runs until a Shutdown; then hands to the disk what L2 alone holds."""

    bookkeeping_errors = 0  # a page lost or counted twice: a bug of ours

    def __init__(
        self,
        connection: Connection,
        engine: Engine,
        ranks: RankSet,
        changes: TierChanges,
        memory: HostMemory | None = None,
    ) -> None:
        self._connection = connection
        self._memory = memory
        self._engine = engine
        self._ranks = ranks
        self._stopping = False
        self._stats_due = 0.0
        self._check_due = 0.0
        self._disk_watch = DiskWatch()
        self._changes = changes
        self._control = ControlDesk(engine.scheduler, changes, self._reply)
        self._was_quiet = False
        self._poller = zmq.Poller()
        self._poller.register(connection.socket, zmq.POLLIN)
        self._poller.register(ranks.reports, zmq.POLLIN)
        self._disk_events: int | None = None

    def stop(self) -> None:
        """Ends `run` after the step under way. May be called from a signal handler."""
        self._stopping = True

    def run(self) -> bool:
        """False if the disk hung at the end and has been left behind: exit hard then."""
        while True:
            outputs = self._take_messages()
            if self._stopping:
                break
            busy, computed = self._engine.step()
            outputs += self._control.sift(computed)
            busy |= self._control.go_on()
            # Before the outputs: who has an answer finds the metrics that belong to it.
            self._report(busy, any(output.finish for output in outputs))
            self._connection.send_outputs(Outputs(outputs))
            if not busy:
                self._rest()
        self._end_change()
        self._flush()
        self._check()
        return self._close_disk()

    def _take_messages(self) -> list[Output]:
        outputs = []
        for message in self._connection.receive():
            match message:
                case Generate():
                    outputs += self._add(message)
                case Abort(request_ids):
                    outputs += [
                        Output(request_id=request_id, finish=FinishReason.ABORTED)
                        for request_id in request_ids
                        if self._engine.scheduler.abort(request_id)
                    ]
                case Control():
                    self._control.take(message)
                case Shutdown():
                    self.stop()
        return outputs

    def _add(self, request: Generate) -> list[Output]:
        """A request that cannot even be queued fails alone."""
        try:
            self._engine.scheduler.add(request)
        except Exception as error:
            log.exception("request %s could not be queued", request.request_id)
            failed = FinishReason.FAILED
            return [Output(request_id=request.request_id, finish=failed, error=repr(error))]
        return []

    def _report(self, busy: bool, ended: bool) -> None:
        """Statistics every second, when a request has ended, and when all has come to rest."""
        now = time.monotonic()
        quiet = not busy and self._engine.manager.idle
        fell_quiet = quiet and not self._was_quiet
        self._was_quiet = quiet
        if ended or fell_quiet or now >= self._stats_due:
            self._stats_due = now + STATS_INTERVAL_S
            self._ranks.check_alive()
            self._send_stats()
            if self._memory is not None:
                self._memory.look()
            if self._engine.manager.disk is not None:
                self._disk_watch.look(self._engine.manager.disk.stats())
        if fell_quiet and now >= self._check_due:
            self._check_due = now + CHECK_INTERVAL_S
            self._check()

    def _send_stats(self) -> None:
        stats = collect(self._engine.scheduler, self._engine.manager)
        stats.counters["bookkeeping_errors_total"] = self.bookkeeping_errors
        if self._memory is not None:
            stats.gauges.update(self._memory.gauges())
        if self._engine.manager.disk is not None:
            stats.gauges.update(out_of_use(self._disk_watch.out_of_use()))
        self._connection.send(stats)

    def _reply(self, reply: ControlReply) -> None:
        """Who has the reply finds the metrics that belong to it."""
        self._send_stats()
        self._connection.send(reply)

    def _check(self) -> None:
        try:
            self._engine.scheduler.check()
        except AssertionError as error:
            self.bookkeeping_errors += 1
            log.error("bookkeeping: %s (please report this); serving goes on", error)

    def _rest(self) -> None:
        """Sleeps until a message, a finished disk request, or the next statistics."""
        wait_s = max(0.0, self._stats_due - time.monotonic())
        prefetcher = self._engine.manager.prefetcher
        if prefetcher is not None and prefetcher.is_waited_for:
            wait_s = min(wait_s, GAP_S)  # a disk that slows down is no event
        if self._control.is_waiting:
            wait_s = min(wait_s, GAP_S)
        if self._engine.manager.copying:
            wait_s = 0.0  # a device's copies end without an event
        self._watch_disk()
        self._poller.poll(int(wait_s * 1000) + 1)

    def _watch_disk(self) -> None:
        """The disk comes and goes."""
        events = self._engine.manager.l3.events
        if events == self._disk_events:
            return
        if self._disk_events is not None:
            self._poller.unregister(self._disk_events)
        if events is not None:
            self._poller.register(events, zmq.POLLIN)
        self._disk_events = events

    def _end_change(self) -> None:
        """A disk that is just being opened or closed has to be there, or gone, before the end."""
        deadline = time.monotonic() + CHANGE_S_MAX
        while self._changes.is_of_disk and time.monotonic() < deadline:
            self._engine.settle()
            self._control.go_on()
            time.sleep(0.01)

    def _flush(self) -> None:
        manager = self._engine.manager
        manager.flush()
        deadline = time.monotonic() + FLUSH_S_MAX
        events = zmq.Poller()
        if manager.l3.events is not None:
            events.register(manager.l3.events, zmq.POLLIN)
        # Without a disk, nothing but the copies to L2 is worth waiting for.
        while manager.copying or (manager.saver is not None and not manager.idle):
            if time.monotonic() > deadline:
                log.warning("the disk is too slow: some pages of L2 are not written")
                return
            self._engine.settle()
            events.poll(10)

    def _close_disk(self) -> bool:
        disk = self._engine.manager.disk
        is_clean = True
        for each in [*self._changes.unclosed, *([disk] if disk is not None else [])]:
            try:
                each.close()
            except StoreError as error:
                log.error("L3 does not close: %s", error)
                is_clean = False
        return is_clean
