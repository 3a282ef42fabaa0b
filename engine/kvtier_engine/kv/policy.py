"""Which page of a tier goes first. One small interface; knows keys and nothing else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol


class EvictionPolicy(Protocol):
    """Orders the keys of one tier.

    Callers touch a chain from its tail to its head, so that a page is always older than
    its parent and leaves first (shared/reference/traces.md: "touched tail-first").
    """

    def insert(self, key: bytes) -> None:
        """`key` is new in the tier, and the most recent."""

    def touch(self, key: bytes) -> None:
        """`key` was used."""

    def discard(self, key: bytes) -> None:
        """`key` left the tier for another reason than `evict`."""

    def evict(self, evictable: Callable[[bytes], bool]) -> bytes | None:
        """Removes and returns the next key to go among those `evictable`; None: there is none."""

    def __len__(self) -> int: ...

    def __contains__(self, key: object) -> bool: ...


class Lru:
    """Least recently used first."""

    def __init__(self) -> None:
        self._order: OrderedDict[bytes, None] = OrderedDict()  # oldest first

    def insert(self, key: bytes) -> None:
        assert key not in self._order, "a page entered its tier twice"
        self._order[key] = None

    def touch(self, key: bytes) -> None:
        self._order.move_to_end(key)

    def discard(self, key: bytes) -> None:
        del self._order[key]

    def evict(self, evictable: Callable[[bytes], bool]) -> bytes | None:
        # A page that is in use is as recent as can be: moving it to the young end keeps the
        # search short. In L1 its parents are in use too and follow it there. In L2 a pin may be
        # on one page of a chain; the next touch of the chain puts it behind its parents again.
        for _ in range(len(self._order)):
            key = next(iter(self._order))
            if evictable(key):
                del self._order[key]
                return key
            self._order.move_to_end(key)
        return None

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, key: object) -> bool:
        return key in self._order
