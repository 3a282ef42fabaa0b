"""What policies would find, from their definitions alone: nothing here is the engine's.

All count a block as found only if every block before it is. All see a chain from its tail
to its head. Those that `kvtier simulate` has as well are taken from there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from kvtier_ops.simulate.ideal import hinted_lru_hits, min_hits
from kvtier_ops.simulate.stack import hit_curve
from kvtier_ops.simulate.trace import Request
from tracereplay.trace import Chain

__all__ = ["ArcCache", "arc_hits", "hinted_lru_hits", "lru_hits", "min_hits"]


def lru_hits(chains: list[Chain], capacities: Sequence[int]) -> list[int]:
    """Blocks found by LRU at each capacity, in one pass (Mattson's stack distances)."""
    numbers: dict[bytes, int] = {}
    requests = []
    for chain in chains:
        numbered = [numbers.setdefault(key, len(numbers)) for key in chain]
        requests.append(Request(0.0, 0, 0, numbered, len(numbered), stores=True))
    curve = hit_curve(requests, len(numbers))
    return [curve.hits(capacity) for capacity in capacities]


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
