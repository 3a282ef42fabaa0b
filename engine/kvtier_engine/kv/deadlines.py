"""Pages with a time to live, and which of them are over it."""

from __future__ import annotations

import heapq

KEYS_MAX = 100_000


class Deadlines:
    """Beyond `keys_max` pages, those that are nearest to their end go early."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._at: dict[bytes, float] = {}
        # At least one entry for each key, at its deadline or before; others are left over.
        self._heap: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: bytes, at: float) -> None:
        """The page goes at `at`, whatever was said before."""
        before = self._at.get(key)
        self._at[key] = at
        if before is None or at < before:
            heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._at) + 64:
            self._heap = [(time, each) for each, time in self._at.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: bytes) -> None:
        self._at.pop(key, None)

    def due(self, now: float) -> list[bytes]:
        """The pages whose time is over; they are forgotten here."""
        over = []
        while self._heap and (self._heap[0][0] <= now or len(self._at) > self._keys_max):
            time, key = heapq.heappop(self._heap)
            at = self._at.get(key)
            if at is None:
                continue
            if at > time:
                heapq.heappush(self._heap, (at, key))  # it was used again meanwhile
                continue
            del self._at[key]
            over.append(key)
        return over
