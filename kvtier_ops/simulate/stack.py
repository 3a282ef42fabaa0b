"""What LRU finds at every capacity, in one pass over a trace.

LRU is a stack algorithm (Mattson and others, 1970): what a cache of n pages holds, a larger one
holds as well, so that each use needs a certain capacity, and a count of these tells all. A request
touches its chain from the tail to the head. So the stack is made of what is left of each request's
chain, the latest on top, heads above tails; and what others took away since was always a chain's
beginning, as who uses a block uses its parents. Hence runs of blocks are counted, not blocks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from kvtier_ops.simulate.trace import Request


class HitCurve:
    """Blocks found, by capacity in blocks."""

    def __init__(self, found: list[int]) -> None:
        """`found[n]`: by a cache of n blocks; a larger one than the last finds no more."""
        self._found = found

    def hits(self, capacity: int) -> int:
        return self._found[max(0, min(capacity, len(self._found) - 1))]

    @property
    def ceiling(self) -> int:
        """By a cache without an end."""
        return self._found[-1]

    def capacity_for(self, hits: int) -> int:
        """The least that finds so many; `hits` is not above the ceiling."""
        return bisect_left(self._found, hits)


def hit_curve(requests: Iterable[Request], unique: int) -> HitCurve:
    """`unique`: blocks that the requests have; they are numbered from 0 and have one parent."""
    return HitCurve(list(accumulate(_Stack(unique).needs(requests))))


class _Stack:
    """`held[r]`: blocks of request r that no later one has; they are the end of its chain."""

    def __init__(self, unique: int) -> None:
        self._last_user = [-1] * unique
        self._held = _Sums()
        self._needs = [0] * (unique + 2)  # uses that a capacity serves and one less does not:
        # the change from one capacity to the next of how many there are

    def needs(self, requests: Iterable[Request]) -> list[int]:
        number = 0
        for request in requests:
            runs = self._runs(request.chain)
            self._count(runs, request.reusable)
            if not request.stores:
                continue
            for user, begin, end in runs:
                self._held.add(user, begin - end)
            self._held.append(len(request.chain))
            for block in request.chain:
                self._last_user[block] = number
            number += 1
        return list(accumulate(self._needs))

    def _runs(self, chain: list[int]) -> list[tuple[int, int, int]]:
        """(last user, begin, end) of its blocks that were used before. The deeper, the longer ago;
        blocks that are new come last."""
        runs, begin = [], 0
        last_user = self._last_user
        while begin < len(chain) and (user := last_user[chain[begin]]) >= 0:
            end = bisect_left(chain, True, begin + 1, key=lambda block: last_user[block] != user)
            runs.append((user, begin, end))
            begin = end
        return runs

    def _count(self, runs: list[tuple[int, int, int]], reusable: int) -> None:
        """The n-th block of a run lies n below what later requests hold; a block is found only if
        all before it are, which need less."""
        for user, begin, end in runs:
            count = min(end, reusable) - begin
            if count <= 0:
                break
            above = self._held.after(user)
            self._needs[above + 1] += 1
            self._needs[above + count + 1] -= 1


class _Sums:
    """A Fenwick tree that grows: sums of what later ones hold."""

    def __init__(self) -> None:
        self._tree = [0]  # the n-th: the sum of (n & -n) values up to the n-th
        self._total = 0

    def append(self, value: int) -> None:
        self._total += value
        place = len(self._tree)
        below, end = place - 1, place - (place & -place)
        while below > end:
            value += self._tree[below]
            below -= below & -below
        self._tree.append(value)

    def add(self, index: int, change: int) -> None:
        self._total += change
        place = index + 1
        while place < len(self._tree):
            self._tree[place] += change
            place += place & -place

    def after(self, index: int) -> int:
        """Of those behind `index`."""
        before, place = 0, index + 1
        while place:
            before += self._tree[place]
            place -= place & -place
        return self._total - before
