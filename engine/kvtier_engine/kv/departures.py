"""What a tier of memory has lost: how old it was, and whether it was asked for again.

A tier that is too small evicts pages sooner than they are used again. Both times are kept here,
as sums: who looks twice has the averages of the time between.
"""

from __future__ import annotations

from kvtier_engine.kv.admit import SeenPages

_KNOWN_PER_PAGE = 8
_KNOWN_MAX = 1 << 20  # 16 MiB
_IS_BACK = -1.0  # in the place of the time of a page's last use


class Departures:
    """Knows four times as many evicted pages as the tier has, and up to twice that, in fixed memory
    (of a large tier as many as it has): what is asked for in turn and is larger than that would
    not fit into a tier that can be had.

    Times are seconds of the caller's clock. What is dropped for another reason than room is no
    departure.
    """

    def __init__(self, pages: int, now: float) -> None:
        self._begin = now  # times are kept in 32 bits: those since the start lose less
        self._gone = SeenPages(max(2 * pages, min(_KNOWN_PER_PAGE * pages, _KNOWN_MAX)))
        self.count = 0
        self.age_s = 0.0  # since their last use, of all evicted
        self.returned = 0  # came back, while they were still known
        self.away_s = 0.0  # from their last use before to their return, of all that returned

    def evicted(self, key: bytes, last_use: float, now: float) -> None:
        self.count += 1
        self.age_s += max(0.0, now - last_use)
        self._gone.add(key, max(0.0, last_use - self._begin))

    def entered(self, key: bytes, now: float) -> None:
        """A page is new in the tier, or has come back."""
        last_use = self._gone.last_use(key)
        if last_use is None or last_use == _IS_BACK:
            return
        self._gone.add(key, _IS_BACK)
        self.returned += 1
        self.away_s += max(0.0, now - self._begin - last_use)
