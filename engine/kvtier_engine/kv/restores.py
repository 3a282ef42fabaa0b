"""L2 -> L1: the copies of the steps, and the slots that they read."""

from __future__ import annotations

from collections import deque

from kvtier_engine.kv.host import HostTier
from kvtier_engine.kv.sequence_pages import Restore


class Restores:
    """A slot is pinned until every rank has run the step that copies it."""

    def __init__(self, host: HostTier | None) -> None:
        self._host = host
        self._next: list[Restore] = []  # of the step being put together
        self._running: deque[tuple[int, int]] = deque()  # (step, slot)
        self.pages = 0  # in all

    def add(self, page: int, slot: int) -> None:
        """Takes over one pin of the slot."""
        self._next.append(Restore(page, slot))
        self.pages += 1

    def take(self, step: int) -> list[Restore]:
        """Those of the step just put together."""
        taken, self._next = self._next, []
        self._running.extend((step, restore.slot) for restore in taken)
        return taken

    def done(self, step: int) -> None:
        """All ranks have run all steps up to `step`."""
        while self._running and self._running[0][0] <= step:
            _, slot = self._running.popleft()
            assert self._host is not None, "a restore without an L2"
            self._host.unpin(slot)

    @property
    def in_flight(self) -> int:
        """Copies that not every rank has made yet."""
        return len(self._running) + len(self._next)
