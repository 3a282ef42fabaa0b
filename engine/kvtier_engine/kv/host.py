"""L2: which slot of the arena holds which page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvtier_engine.kv.policy import EvictionPolicy

if TYPE_CHECKING:
    from kvtier_store import Arena


class HostTier:
    """Host memory in slots of one page each, one copy for all ranks of the node.

    A slot is free, or reserved (being filled), or holds a page. Pinned slots are being
    read or written by somebody and keep their bytes.
    """

    def __init__(self, arena: Arena, policy: EvictionPolicy) -> None:
        self._arena = arena
        self._policy = policy
        self._free: list[int] = []
        self._slot_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._reserved: set[int] = set()
        self._pins: dict[int, int] = {}
        self._unverified: set[int] = set()
        self.evictions = 0
        self.adopted = 0
        self.corrupt = 0
        self._adopt()

    @property
    def slots(self) -> int:
        return self._arena.slots

    @property
    def populated_bytes(self) -> int:
        """Bytes of the arena that have memory behind them; grows after the start."""
        return self._arena.populated_bytes

    @property
    def mapped_bytes(self) -> int:
        return self._arena.mapped_bytes

    @property
    def held(self) -> int:
        """Slots that hold a page."""
        return len(self._slot_of)

    @property
    def pinned(self) -> int:
        return len(self._pins)

    def find(self, key: bytes) -> int | None:
        """The slot that holds `key`. A slot adopted from an earlier engine is checked here,
        before its first use; bytes that do not agree with their checksum are dropped."""
        slot = self._slot_of.get(key)
        if slot is not None and slot in self._unverified:
            self._unverified.discard(slot)
            if not self._arena.verify(slot):
                self.corrupt += 1
                self.drop(key)
                return None
        return slot

    def reserve(self, key: bytes) -> int | None:
        """A slot to fill with the page of `key`, pinned; None if every slot is pinned."""
        self._policy.expect(key)
        if not self._free:
            found = self._policy.oldest(1, lambda k: self._slot_of[k] not in self._pins)
            if not found:
                return None
            self.evictions += 1
            self._policy.evict(found[0])
            self._vacate(found[0])
        slot = self._free.pop()
        self._reserved.add(slot)
        self.pin(slot)
        return slot

    def publish(self, slot: int, key: bytes) -> None:
        """The reserved slot has been filled with the page of `key`; it stays pinned."""
        assert slot in self._reserved, "only a reserved slot can be published"
        assert key not in self._slot_of, "one page, one slot"
        self._arena.publish(slot, key)
        self._reserved.discard(slot)
        self._slot_of[key] = slot
        self._key_of[slot] = key
        self._policy.insert(key)

    def abandon(self, slot: int) -> None:
        """The reserved slot could not be filled, or its page came from elsewhere meanwhile."""
        assert slot in self._reserved, "only a reserved slot can be abandoned"
        self._reserved.discard(slot)
        self.unpin(slot)
        self._free.append(slot)

    def pin(self, slot: int) -> None:
        self._pins[slot] = self._pins.get(slot, 0) + 1

    def is_pinned(self, slot: int) -> bool:
        return slot in self._pins

    def unpin(self, slot: int) -> None:
        count = self._pins[slot] - 1
        if count:
            self._pins[slot] = count
        else:
            del self._pins[slot]

    def touch(self, keys: Sequence[bytes]) -> None:
        """A chain, head first, is used: those of its pages that are here."""
        for key in reversed(keys):
            if key in self._slot_of:
                self._policy.touch(key)

    def reorder(self, keys: Sequence[bytes]) -> None:
        """A chain, head first, was used and has grown: puts its pages behind their parents."""
        for key in reversed(keys):
            if key in self._slot_of:
                self._policy.reorder(key)

    def drop(self, key: bytes) -> None:
        """Forgets a page that must not be used again; its slot must not be pinned."""
        self._policy.discard(key)
        self._vacate(key)

    def pieces(self, slot: int) -> list[tuple[int, int]]:
        """(address, length) of each rank's part of the slot."""
        return self._arena.pieces(slot)

    def check(self) -> None:
        """Raises AssertionError if a slot is lost or counted twice."""
        free, held = set(self._free), set(self._key_of)
        assert len(free) == len(self._free), "a slot is free twice"
        assert not free & held and not free & self._reserved and not held & self._reserved
        assert len(free) + len(held) + len(self._reserved) == self.slots, "a slot was lost"
        assert not free & set(self._pins), "a free slot is pinned"
        assert {k: s for s, k in self._key_of.items()} == self._slot_of
        assert len(self._policy) == len(self._slot_of)

    def _adopt(self) -> None:
        entries = self._arena.entries()
        for entry in entries:
            if entry.key in self._slot_of:
                self._arena.retract(entry.slot)
                continue
            self._slot_of[entry.key] = entry.slot
            self._key_of[entry.slot] = entry.key
            self._policy.insert(entry.key)
            self._unverified.add(entry.slot)
        self.adopted = len(self._slot_of)
        self._free = [s for s in range(self.slots - 1, -1, -1) if s not in self._key_of]

    def _vacate(self, key: bytes) -> None:
        slot = self._slot_of.pop(key)
        del self._key_of[slot]
        assert slot not in self._pins, "a pinned slot cannot be given away"
        self._unverified.discard(slot)
        self._arena.retract(slot)
        self._free.append(slot)
