"""What better knowledge would find: the optimum, and LRU that is told what is used no more.

Both know the future, as no cache does. The second knows only what an application can tell with a
hint: that a conversation is over.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import TypeVar

Block = TypeVar("Block", bound=Hashable)


def hinted_lru_hits(
    chains: Sequence[Sequence[Block]],
    capacity: int,
    reusable: Sequence[int] | None = None,
    stores: Sequence[bool] | None = None,
) -> int:
    """Blocks that LRU finds if each request says which of its blocks no later one has: those
    leave at once, and do not enter. `reusable`: of each chain, how many may be found; None: all.
    `stores`: whether it leaves anything in the cache; None: each does."""
    cache: OrderedDict[Block, None] = OrderedDict()
    last_use = _last_uses(chains)
    hits = 0
    for number, chain in enumerate(chains):
        hits += _leading(chain, cache, _most(chain, reusable, number))
        if stores is not None and not stores[number]:
            continue
        for block in chain:
            if last_use[block] == number:
                cache.pop(block, None)
        for block in reversed(chain):
            if last_use[block] == number:
                continue
            if block not in cache and len(cache) == capacity:
                cache.popitem(last=False)
            cache[block] = None
            cache.move_to_end(block)
    return hits


def min_hits(
    chains: Sequence[Sequence[Block]],
    capacity: int,
    reusable: Sequence[int] | None = None,
    stores: Sequence[bool] | None = None,
) -> int:
    """Blocks that the optimum finds: what is used farthest in the future goes first, of one chain
    the tail, and what is never used again does not enter. As for `hinted_lru_hits`."""
    following = _next_uses(chains)
    next_use: dict[Block, float] = {}  # of what is in the cache
    farthest: list[tuple[float, int, Block]] = []
    hits = 0
    for number, chain in enumerate(chains):
        hits += _leading(chain, next_use, _most(chain, reusable, number))
        may_enter = stores is None or stores[number]
        for depth, block in enumerate(chain):
            if not may_enter and block not in next_use:
                continue
            use = following[number][depth]
            if use < 0:
                next_use.pop(block, None)
                continue
            next_use[block] = use
            heapq.heappush(farthest, (-use, -depth, block))
        while len(next_use) > capacity:
            farthest_use, _, block = heapq.heappop(farthest)
            if next_use.get(block, math.nan) == -farthest_use:
                del next_use[block]
    return hits


def _most(chain: Sequence[Block], reusable: Sequence[int] | None, number: int) -> int:
    return len(chain) if reusable is None else reusable[number]


def _leading(
    chain: Sequence[Block], cache: dict[Block, float] | OrderedDict[Block, None], most: int
) -> int:
    """How many of the first `most` blocks are there before one that is not."""
    for index in range(most):
        if chain[index] not in cache:
            return index
    return most


def _last_uses(chains: Sequence[Sequence[Block]]) -> dict[Block, int]:
    """The number of the last chain that has a block."""
    last: dict[Block, int] = {}
    for number, chain in enumerate(chains):
        last.update(dict.fromkeys(chain, number))
    return last


def _next_uses(chains: Sequence[Sequence[Block]]) -> list[list[int]]:
    """Of each block of each chain, the number of the next chain that has it; -1: none."""
    following: list[list[int]] = []
    upcoming: dict[Block, int] = {}
    for number in range(len(chains) - 1, -1, -1):
        chain = chains[number]
        following.append([upcoming.get(block, -1) for block in chain])
        upcoming.update(dict.fromkeys(chain, number))
    following.reverse()
    return following
