"""Tells the operator when a disk of L3 goes out of use and when it is back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvtier_store import StoreStats

log = logging.getLogger(__name__)


class DiskWatch:
    """Logs changes only: a disk that stays away for a night fills no log."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}  # by directory; in use: none

    def look(self, stats: StoreStats) -> None:
        for directory in stats.directories:
            reason, before = directory.out_of_use_reason, self._reasons.get(directory.path, "")
            if reason == before:
                continue
            self._reasons[directory.path] = reason
            if reason:
                log.warning("L3: %s; it is tried again, its pages are misses till then", reason)
            else:
                log.warning("L3: %s is in use again", directory.path)
