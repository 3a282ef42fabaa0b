"""What policies would find, from their definitions alone: nothing here is the engine's.

All count a block as found only if every block before it is. All see a chain from its tail
to its head.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Sequence

from tracereplay.trace import Chain, last_uses


class _Marks:
    """A Fenwick tree: how many marks lie at or behind a time."""

    def __init__(self, size: int) -> None:
        self._sums = [0] * (size + 1)
        self._total = 0

    def add(self, time: int, change: int) -> None:
        self._total += change
        at = time + 1
        while at < len(self._sums):
            self._sums[at] += change
            at += at & -at

    def from_time(self, time: int) -> int:
        before = 0
        at = time
        while at:
            before += self._sums[at]
            at -= at & -at
        return self._total - before


def lru_hits(chains: list[Chain], capacities: Sequence[int]) -> list[int]:
    """Blocks found by LRU at each capacity, in one pass (Mattson's stack distances)."""
    marks = _Marks(sum(map(len, chains)))
    last_use: dict[bytes, int] = {}
    found_at: dict[int, int] = {}  # blocks that need a capacity of just so many
    now = 0
    for chain in chains:
        needed = 0
        for key in chain:
            if key not in last_use:
                break
            needed = max(needed, marks.from_time(last_use[key]))
            found_at[needed] = found_at.get(needed, 0) + 1
        for key in reversed(chain):
            if key in last_use:
                marks.add(last_use[key], -1)
            last_use[key] = now
            marks.add(now, +1)
            now += 1
    return [sum(n for needed, n in found_at.items() if needed <= c) for c in capacities]


def hinted_lru_hits(chains: list[Chain], capacity: int) -> int:
    """Blocks that LRU finds if each request says which of its blocks no later one has: those
    leave at once, and do not enter. A perfect end-of-session hint."""
    cache: OrderedDict[bytes, None] = OrderedDict()
    hits = 0
    for chain, over in zip(chains, last_uses(chains), strict=True):
        hits += next((i for i, key in enumerate(chain) if key not in cache), len(chain))
        for key in over:
            cache.pop(key, None)
        for key in reversed(chain):
            if key in over:
                continue
            if key not in cache and len(cache) == capacity:
                cache.popitem(last=False)
            cache[key] = None
            cache.move_to_end(key)
    return hits


class ArcCache:
    """ARC by its paper's four cases, but for the rule for |T1| = p (see kv/arc.py)."""

    def __init__(self, capacity: int) -> None:
        self.c = capacity
        self.p = 0
        self.t1: OrderedDict[bytes, None] = OrderedDict()
        self.t2: OrderedDict[bytes, None] = OrderedDict()
        self.b1: OrderedDict[bytes, None] = OrderedDict()
        self.b2: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return key in self.t1 or key in self.t2

    def access(self, key: bytes) -> None:
        if key in self:  # case I
            self.t1.pop(key, None)
            self.t2.pop(key, None)
            self.t2[key] = None
        elif key in self.b1:  # case II
            del self.b1[key]
            self.p = min(self.c, self.p + max(1, len(self.b2) // max(1, len(self.b1))))
            self._replace()
            self.t2[key] = None
        elif key in self.b2:  # case III
            del self.b2[key]
            self.p = max(0, self.p - max(1, len(self.b1) // max(1, len(self.b2))))
            self._replace()
            self.t2[key] = None
        else:
            self._make_room()
            self.t1[key] = None

    def move_to_front(self, key: bytes) -> None:
        (self.t1 if key in self.t1 else self.t2).move_to_end(key)

    def _make_room(self) -> None:  # case IV
        pages = len(self.t1) + len(self.t2)
        if len(self.t1) + len(self.b1) == self.c:
            if len(self.t1) < self.c:
                self.b1.popitem(last=False)
                self._replace()
            else:
                self.t1.popitem(last=False)
        elif pages + len(self.b1) + len(self.b2) >= self.c:
            if pages + len(self.b1) + len(self.b2) == 2 * self.c:
                self.b2.popitem(last=False)
            self._replace()

    def _replace(self) -> None:
        if self.t1 and (len(self.t1) > self.p or not self.t2):
            self.b1[self.t1.popitem(last=False)[0]] = None
        else:
            self.b2[self.t2.popitem(last=False)[0]] = None


def arc_hits(chains: list[Chain], capacity: int, *, reorder: bool) -> int:
    """Blocks that ARC finds. `reorder`: at its end a request puts its chain in order."""
    cache = ArcCache(capacity)
    hits = 0
    for chain in chains:
        hits += next((i for i, key in enumerate(chain) if key not in cache), len(chain))
        for key in reversed(chain):
            if key in cache:
                cache.access(key)
        for key in reversed(chain):
            if key not in cache:
                cache.access(key)
        if reorder:
            for key in reversed(chain):
                if key in cache:
                    cache.move_to_front(key)
    return hits


def min_hits(chains: list[Chain], capacity: int) -> int:
    """Blocks that the optimum finds: what is used farthest in the future goes first, of one chain
    the tail, and what is never used again does not enter."""
    uses: dict[bytes, list[int]] = {}  # of each block, the next one last
    for number in range(len(chains) - 1, -1, -1):
        for key in chains[number]:
            uses.setdefault(key, []).append(number)
    next_use: dict[bytes, float] = {}  # of what is in the cache
    farthest: list[tuple[float, int, bytes]] = []
    hits = 0
    for chain in chains:
        hits += next((i for i, key in enumerate(chain) if key not in next_use), len(chain))
        for depth, key in enumerate(chain):
            uses[key].pop()
            if not uses[key]:
                next_use.pop(key, None)
                continue
            next_use[key] = uses[key][-1]
            heapq.heappush(farthest, (-next_use[key], -depth, key))
        while len(next_use) > capacity:
            use, _, key = heapq.heappop(farthest)
            if next_use.get(key, math.nan) == -use:
                del next_use[key]
    return hits
