"""Tells the operator when a disk of L3 goes out of use and when it is back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvtier_store import StoreStats

log = logging.getLogger(__name__)


class DiskWatch:
    """Logs changes only: a disk that stays away for a night fills no log."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._reasons: dict[str, str] = {}  # by directory; in use: none
        self._since: dict[str, float] = {}  # Unix times

    def look(self, stats: StoreStats) -> None:
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
