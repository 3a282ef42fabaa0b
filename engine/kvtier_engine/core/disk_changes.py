"""L3 detached, attached, and opened anew in another size."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from kvtier_engine.core.background import Background
from kvtier_engine.core.change import ChangeRefused, Part, RunInBackground, Values, Work, wait_for
from kvtier_engine.core.change import now as values_now
from kvtier_engine.core.disk import DiskOpener, DiskUnavailable
from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.kv.manager import KvManager
from kvtier_store import StoreError

log = logging.getLogger(__name__)

HANGS_S = 15.0  # a disk that has not ended its requests by then


class DiskChanges:
    """Whatever touches a directory does so in the background: its disk may hang."""

    def __init__(
        self,
        manager: KvManager,
        opener: DiskOpener,
        clock: Callable[[], float] = time.monotonic,
        in_background: RunInBackground = Background,
    ) -> None:
        self._manager = manager
        self._opener = opener
        self._clock = clock
        self._in_background = in_background
        self._left_behind: Work | None = None  # closes a disk that hangs, when it has come to
        self.unclosed: list[DiskTier] = []  # used no more

    def resize(self, size_bytes: int) -> Work:
        if self._manager.disk is None:
            raise ChangeRefused("l3 is detached: attach it, with a size if that is to be another")
        return self._open_anew(size_bytes)

    def detach(self) -> Work:
        if self._manager.disk is None:
            raise ChangeRefused("l3 is detached already")
        return self._detach()

    def attach(self, size_bytes: int | None) -> Work:
        host = self._manager.host
        if self._manager.disk is not None:
            raise ChangeRefused("l3 is attached already; `resize` changes its size")
        if not self._opener.directories:
            raise ChangeRefused("there is no l3: set `tiers.l3.directories` and launch again")
        if self._left_behind is not None:
            raise ChangeRefused("l3 was detached while its disk hung, and it hangs still")
        if host is None or not host.slots:
            raise ChangeRefused("pages reach the disk through l2, which is not there: attach l2")
        return self._attach(size_bytes)

    @property
    def is_detached(self) -> bool:
        """There are directories, with pages that nobody finds."""
        return bool(self._opener.directories) and self._manager.disk is None

    def tend(self) -> None:
        """Looks after a disk that was left behind."""
        if self._left_behind is None:
            return
        try:
            next(self._left_behind)
            return
        except StopIteration:
            log.warning("l3: the disk that hung is closed, its directories are given back")
        except Exception as error:
            log.error("l3 has not been closed: %s", error)
        self._left_behind = None

    def _open_anew(self, size_bytes: int) -> Work:
        capacities = yield from self._choose(size_bytes)
        yield from self._detach()
        try:
            return (yield from self._open(capacities))
        except DiskUnavailable as error:
            refused = f"{error}; l3 has the size that it had"
        try:
            yield from self._open(None)
        except DiskUnavailable as error:
            raise _out_of_use(error) from error
        raise ChangeRefused(refused)

    def _attach(self, size_bytes: int | None) -> Work:
        capacities = None if size_bytes is None else (yield from self._choose(size_bytes))
        try:
            return (yield from self._open(capacities))
        except DiskUnavailable as error:
            raise _out_of_use(error) from error

    def _choose(self, size_bytes: int) -> Part[list[int]]:
        work = self._in_background(lambda: self._opener.capacities_for(size_bytes))
        try:
            capacities: list[int] = yield from wait_for(work)
        except DiskUnavailable as error:
            raise ChangeRefused(str(error)) from error
        return capacities

    def _detach(self) -> Work:
        disk = self._manager.disk
        assert disk is not None
        self._manager.l3.detach()
        self.unclosed.append(disk)
        deadline = self._clock() + HANGS_S
        while self._manager.l3.leaving is not None:
            if self._clock() > deadline:
                self._left_behind = self._close(disk)
                raise ChangeRefused(
                    f"l3 is used no more, but {disk.in_flight} of its reads and writes hang: its "
                    "directories are given back when they end"
                )
            yield False
        try:
            return (yield from self._close(disk))
        except StoreError as error:
            raise ChangeRefused(f"l3 is used no more, but does not close: {error}") from error

    def _close(self, disk: DiskTier) -> Work:
        while self._manager.l3.leaving is not None:
            yield False
        yield from wait_for(self._in_background(disk.close))
        self.unclosed.remove(disk)
        return values_now("l3", 0, 0)

    def _open(self, capacities: Sequence[int] | None) -> Part[Values]:
        """Raises DiskUnavailable."""
        host = self._manager.host
        slots = host.slots if host is not None else 0
        work = self._in_background(lambda: self._opener.open(slots, capacities))
        disk = yield from wait_for(work)
        self._manager.l3.attach(disk.tier, disk.rules)
        stats = disk.tier.stats()
        return values_now("l3", stats.capacity_pages, stats.capacity_bytes)


def _out_of_use(error: DiskUnavailable) -> ChangeRefused:
    return ChangeRefused(f"{error}; l3 is out of use until it can be attached")
