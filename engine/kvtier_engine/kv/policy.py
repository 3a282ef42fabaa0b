"""Which page of a tier goes first. One small interface; knows keys and nothing else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from kvtier_engine.config import MemoryEviction
from kvtier_engine.kv.arc import Arc


class EvictionPolicy(Protocol):
    """Orders the keys of one tier.

    Callers touch a chain from its tail to its head, so that a page is always older than
    its parent and leaves first (shared/reference/traces.md: "touched tail-first").
    """

    def expect(self, key: bytes) -> None:
        """`key` is about to enter the tier: told before room is made for it, if it is known."""

    def insert(self, key: bytes) -> None:
        """`key` is new in the tier, and the most recent."""

    def touch(self, key: bytes) -> None:
        """`key` was found and used: the most recent, and used once more."""

    def reorder(self, key: bytes) -> None:
        """`key` is the most recent, but this is no other use than the last `insert` or `touch`:
        a chain is put in order when it has been computed."""

    def discard(self, key: bytes) -> None:
        """`key` left the tier for another reason than `evict`, and is not remembered."""

    def oldest(self, count: int, is_idle: Callable[[bytes], bool]) -> list[bytes]:
        """The next `count` keys to go, the first one first; fewer if there are not so many.
        Those met that are not idle are in use, and so as recent as can be."""

    def evict(self, key: bytes) -> None:
        """`key`, one of the oldest, leaves the tier to make room."""

    def resize(self, capacity: int) -> None:
        """The tier has so many pages from now on."""

    def __len__(self) -> int: ...

    def __contains__(self, key: object) -> bool: ...


class Lru:
    """Least recently used first."""

    def __init__(self) -> None:
        self._order: OrderedDict[bytes, None] = OrderedDict()  # oldest first

    def expect(self, key: bytes) -> None:
        pass

    def insert(self, key: bytes) -> None:
        assert key not in self._order, "a page entered its tier twice"
        self._order[key] = None

    def touch(self, key: bytes) -> None:
        self._order.move_to_end(key)

    def reorder(self, key: bytes) -> None:
        self._order.move_to_end(key)

    def discard(self, key: bytes) -> None:
        del self._order[key]

    def oldest(self, count: int, is_idle: Callable[[bytes], bool]) -> list[bytes]:
        # Moving what is in use to the young end keeps the search short. In L1 its parents are in
        # use too and follow it there. In L2 a pin may be on one page of a chain; the next touch
        # of the chain puts it behind its parents again.
        found: list[bytes] = []
        in_use: list[bytes] = []
        for key in self._order:
            if len(found) == count:
                break
            (found if is_idle(key) else in_use).append(key)
        for key in in_use:
            self._order.move_to_end(key)
        return found

    def evict(self, key: bytes) -> None:
        del self._order[key]

    def resize(self, capacity: int) -> None:
        pass

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, key: object) -> bool:
        return key in self._order


def make_policy(name: MemoryEviction, capacity: int) -> EvictionPolicy:
    """The policy of that name for a tier of so many pages."""
    return Arc(capacity) if name == "arc" else Lru()
