"""Tells the operator when a disk of L3 goes out of use, or takes no writes, and when it is back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvtier_store import StoreStats

log = logging.getLogger(__name__)

CALM_S = 60.0  # without a write that was dropped: then they are all taken again


class DiskWatch:
    """Logs changes only: a disk that stays away for a night fills no log."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._reasons: dict[str, str] = {}  # by directory; in use: none
        self._since: dict[str, float] = {}  # Unix times
        self._dropped = 0  # writes, when they were last counted
        self._first_dropped = 0  # before the first of those that are told of now
        self._last_drop: float | None = None  # a Unix time; None: all are taken

    def look(self, stats: StoreStats) -> None:
        self._look_at_directories(stats)
        self._look_at_writes(stats.dropped_writes)

    def _look_at_writes(self, dropped: int) -> None:
        """Those of a disk that is out of use are told of with it."""
        grown, before = dropped > self._dropped, self._dropped
        self._dropped = dropped
        if self._since:
            return
        if grown:
            if self._last_drop is None:
                self._first_dropped = before
                log.warning(
                    "L3: pages are not written: the file system is full but for tiers.l3.reserve, "
                    "or they come faster than the disk writes (df -h, df -i, kvtier doctor --live "
                    "tell); they are computed again when L2 has them no more"
                )
            self._last_drop = self._clock()
        elif self._last_drop is not None and self._clock() - self._last_drop > CALM_S:
            self._last_drop = None
            count = max(0, dropped - self._first_dropped)
            log.warning("L3: pages are written again; %d were not", count)

    def _look_at_directories(self, stats: StoreStats) -> None:
        for directory in stats.directories:
            reason, before = directory.out_of_use_reason, self._reasons.get(directory.path, "")
            if reason == before:
                continue
            self._reasons[directory.path] = reason
            if reason:
                if not before:
                    self._since[directory.path] = self._clock()
                log.warning("L3: %s; it is tried again, its pages are misses till then", reason)
            else:
                del self._since[directory.path]
                log.warning("L3: %s is in use again", directory.path)

    def out_of_use(self) -> dict[str, tuple[str, float]]:
        """Directory -> why, and since which Unix time."""
        return {path: (self._reasons[path], since) for path, since in self._since.items()}
