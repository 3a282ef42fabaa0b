"""The engine's own bookkeeping of L1 and L2 as a cache of one tier; no bytes move."""

from __future__ import annotations

from typing import Any, cast

from kvtier_engine.config import MemoryEviction
from kvtier_engine.kv.host import HostTier
from kvtier_engine.kv.pages import PagePool
from kvtier_engine.kv.policy import make_policy
from tracereplay.trace import Chain, last_uses


class NoMemory:
    """An arena's face with nothing behind it."""

    def __init__(self, slots: int) -> None:
        self.slots = slots

    def entries(self) -> list[Any]:
        return []

    def publish(self, *_: Any) -> None:
        pass

    def retract(self, slot: int) -> None:
        pass


class L1Books:
    """A PagePool whose pages nobody holds for longer than it takes to publish them."""

    def __init__(self, pages: int, eviction: MemoryEviction) -> None:
        self.tier = PagePool(pages, make_policy(eviction, pages))

    def add(self, key: bytes) -> None:
        pages = self.tier.allocate(1, [key])
        assert pages is not None, "no page is held"
        self.tier.publish(pages[0], key)
        self.tier.release(pages)


class L2Books:
    """A HostTier without a disk below it."""

    def __init__(self, pages: int, eviction: MemoryEviction) -> None:
        arena = cast("Any", NoMemory(pages))
        self.tier = HostTier(arena, make_policy(eviction, pages))

    def add(self, key: bytes) -> None:
        slot = self.tier.reserve(key)
        assert slot is not None, "no slot is pinned"
        self.tier.publish(slot, key)
        self.tier.unpin(slot)


def books_hits(chains: list[Chain], books: L1Books | L2Books, *, reorder: bool = True) -> int:
    """Blocks found. As the engine does: a request touches what it finds, then its missing pages
    enter, and at its end its chain is put in order, tail first (unless not `reorder`)."""
    tier = books.tier
    hits = 0
    for chain in chains:
        hits += _found(tier, chain)
        tier.touch(chain)
        _add_missing(books, chain)
        if reorder:
            tier.reorder(chain)
    tier.check()
    return hits


def hinted_hits(chains: list[Chain], pages: int) -> int:
    """Blocks found by L2 under LRU, if each request says which of its pages no later one has:
    those leave, and do not enter."""
    books = L2Books(pages, "lru")
    hits = 0
    for chain, over in zip(chains, last_uses(chains), strict=True):
        hits += _found(books.tier, chain)
        for key in over:
            if books.tier.find(key) is not None:
                books.tier.drop(key)
        kept = [key for key in chain if key not in over]
        books.tier.touch(kept)
        _add_missing(books, kept)
        books.tier.reorder(kept)
    books.tier.check()
    return hits


def _found(tier: PagePool | HostTier, chain: Chain) -> int:
    return next((i for i, key in enumerate(chain) if tier.find(key) is None), len(chain))


def _add_missing(books: L1Books | L2Books, chain: Chain) -> None:
    for key in reversed(chain):
        if books.tier.find(key) is None:
            books.add(key)
