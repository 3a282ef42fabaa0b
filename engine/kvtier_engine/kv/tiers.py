"""A page in whatever tiers it is: is it there, is it in use, away with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.kv.host import HostTier
from kvtier_engine.kv.keys import NO_PARENT
from kvtier_engine.kv.offload import Offloader
from kvtier_engine.kv.pages import PagePool
from kvtier_engine.kv.prefetch import Lookup, Prefetcher
from kvtier_engine.kv.save import Saver


@dataclass(slots=True)
class Tiers:
    """`disk` and `saver` come and go together, while the engine runs."""

    pool: PagePool
    host: HostTier | None
    offloader: Offloader | None
    prefetcher: Prefetcher | None
    disk: DiskTier | None = None
    saver: Saver | None = None

    def on_disk(self, keys: Sequence[bytes]) -> list[bool]:
        return self.disk.contains(keys) if self.disk is not None else [False] * len(keys)

    def is_nowhere(self, key: bytes) -> bool:
        """The page is in no tier. Pages on their way count as not there."""
        if self.pool.find(key) is not None:
            return False
        if self.host is not None and self.host.find(key) is not None:
            return False
        return not self.on_disk([key])[0]

    def is_moving(self, key: bytes) -> bool:
        """The page is on its way from one tier to another."""
        if self.offloader is not None and self.offloader.is_moving(key):
            return True
        if self.saver is not None and self.saver.is_moving(key):
            return True
        return self.prefetcher is not None and self.prefetcher.is_moving(key)

    def is_in_use(self, key: bytes) -> bool:
        """Somebody holds the page in L1, reads or writes it in L2, or moves it."""
        if self.pool.is_held(key) or self.is_moving(key):
            return True
        slot = self.host.find(key) if self.host is not None else None
        return slot is not None and self.host is not None and self.host.is_pinned(slot)

    def read_up(self, keys: Sequence[bytes], begin: int) -> Lookup | None:
        """Starts to bring pages of a chain, from the `begin`-th on, from disk to L2, the first ones
        first; None if there is no L2. The prefetcher says when it is over, and has to be told its
        end."""
        if self.prefetcher is None:
            return None
        parent = keys[begin - 1] if begin else NO_PARENT
        left = keys[begin:]
        in_l1 = [self.pool.find(key) is not None for key in left]
        return self.prefetcher.start(left, in_l1, parent=parent, from_front=True)

    def clear(self, tier: Literal["l1", "l2", "l3"]) -> int:
        """Drops all pages of a tier that are not in use, and makes those that are in use in L1
        unknown to others; how many. StoreError if a disk is out of use."""
        if tier == "l1":
            return self.pool.forget()
        if tier == "l2":
            gone = self.host.clear() if self.host is not None else []
            for key in gone:
                if self.saver is not None:
                    self.saver.forget(key)
            return len(gone)
        return self.disk.clear() if self.disk is not None else 0

    def drop(self, keys: Sequence[bytes]) -> None:
        """Away with pages that are not in use."""
        for key in keys:
            self.pool.drop(key)
            if self.saver is not None:
                self.saver.forget(key)
            if self.host is not None and self.host.find(key) is not None:
                self.host.drop(key)
        if self.disk is not None and keys:
            self.disk.evict(keys)
