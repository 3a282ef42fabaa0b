"""L2: which slot of the arena holds which page, and whether the disk has it as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING

from kvtier_engine.kv.departures import Departures
from kvtier_engine.kv.free_list import FreeList
from kvtier_engine.kv.keys import NO_PARENT
from kvtier_engine.kv.policy import EvictionPolicy

if TYPE_CHECKING:
    from kvtier_store import Arena


class DiskCopy(Enum):
    """What the disk has of a page in L2."""

    NONE = "L2 alone holds the page, and the disk is to have it"
    SAVING = "it is being written; its slot is pinned for that"
    PRESENT = "the disk has it, or had it when that was last known"
    UNWANTED = "the disk is not to have it, unless it is used again"


_MAY_GO = (DiskCopy.PRESENT, DiskCopy.UNWANTED)


@dataclass(frozen=True, slots=True)
class Link:
    """A page's place in its chain."""

    parent: bytes = NO_PARENT
    chain_pages: int = 0  # of the chain that it was last used with; 0: not known


@dataclass(slots=True)
class HostPage:
    """A page in L2. Gone with it: whoever looks a key up later finds the page's next life."""

    slot: int
    link: Link
    disk_copy: DiskCopy
    last_use: float
    was_used: bool = False  # found by a request since it came


class HostTier:
    """Host memory in slots of one page each, one copy for all ranks of the node.

    A slot is free, or reserved (being filled), or holds a page. Pinned slots are being
    read or written by somebody and keep their bytes. Pages that are kept may be read and
    dropped, but are not evicted. Others leave in the policy's order, but among the first
    `window` of it one that the disk need not get goes before one that it should.

    Its size can change, up to what the arena has. What is above a smaller size leaves by and by
    (`shrink`): the oldest pages are evicted, the others move below it.
    """

    def __init__(
        self,
        arena: Arena,
        policy: EvictionPolicy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.departures = Departures(arena.slots, clock())
        self._arena = arena
        self.policy = policy
        self._pages: dict[bytes, HostPage] = {}
        self._key_of: dict[int, bytes] = {}
        self._reserved: set[int] = set()
        self._pins: dict[int, int] = {}
        self._kept: set[bytes] = set()
        self._unverified: set[int] = set()
        self.window = 1
        self.reservations = 0
        self.unsaved = 0  # evicted before the disk could take them
        self.adopted = 0
        self.corrupt = 0
        self._adopt()
        self._free = FreeList(arena.slots, self._key_of)

    @property
    def evictions(self) -> int:
        return self.departures.count

    @property
    def slots(self) -> int:
        """How many may be used."""
        return self._free.limit

    @property
    def capacity(self) -> int:
        """How many slots the arena has."""
        return self._free.capacity

    @property
    def over(self) -> int:
        """Slots in use beyond the size: so many pages have to be evicted."""
        return max(0, self._free.used - self.slots)

    @property
    def outside(self) -> int:
        """Slots above the size that are still in use."""
        return len(self._free.places_outside)

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
        return len(self._pages)

    @property
    def free(self) -> int:
        """Slots that `reserve` hands out before it evicts anything."""
        return len(self._free)

    @property
    def pinned(self) -> int:
        return len(self._pins)

    def find(self, key: bytes) -> int | None:
        """The slot that holds `key`. A slot adopted from an earlier engine is checked here,
        before its first use; bytes that do not agree with their checksum are dropped."""
        page = self._pages.get(key)
        if page is None:
            return None
        if page.slot in self._unverified:
            self._unverified.discard(page.slot)
            if not self._arena.verify(page.slot):
                self.corrupt += 1
                self.drop(key)
                return None
        return page.slot

    def page(self, key: bytes) -> HostPage | None:
        """What is known of the page; its bytes may still have to be checked (see `find`)."""
        return self._pages.get(key)

    def pages(self) -> Iterator[tuple[bytes, HostPage]]:
        yield from self._pages.items()

    def oldest(self, count: int) -> list[bytes]:
        """The next `count` pages to go, if all may go; those in use or kept are left out."""
        return self.policy.oldest(count, self._is_idle)

    def reserve(self, key: bytes) -> int | None:
        """A slot to fill with the page of `key`, pinned; None if every slot is pinned or kept, or
        there are still too many for a smaller size."""
        self.policy.expect(key)
        if self.over:
            return None
        if not self._free:
            victim = self._victim()
            if victim is None:
                return None
            self._evict(victim)
        slot = self._free.take()
        self.reservations += 1
        self._reserved.add(slot)
        self.pin(slot)
        return slot

    def publish(
        self,
        slot: int,
        key: bytes,
        link: Link = Link(),
        disk_copy: DiskCopy = DiskCopy.UNWANTED,
    ) -> None:
        """The reserved slot has been filled with the page of `key`; it stays pinned."""
        assert slot in self._reserved, "only a reserved slot can be published"
        assert key not in self._pages, "one page, one slot"
        self._arena.publish(slot, key, link.parent)
        self._reserved.discard(slot)
        now = self._clock()
        self._pages[key] = HostPage(slot, link, disk_copy, now)
        self.departures.entered(key, now)
        self._key_of[slot] = key
        self.policy.insert(key)

    def abandon(self, slot: int) -> None:
        """The reserved slot could not be filled, or its page came from elsewhere meanwhile."""
        assert slot in self._reserved, "only a reserved slot can be abandoned"
        self._reserved.discard(slot)
        self.unpin(slot)
        self._free.give_back(slot)

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
        now = self._clock()
        for key in reversed(keys):
            page = self._pages.get(key)
            if page is not None:
                page.last_use = now
                self.policy.touch(key)

    def keep(self, key: bytes) -> None:
        """The page is not evicted any more: if it is not here, from when it comes."""
        self._kept.add(key)

    def is_kept(self, key: bytes) -> bool:
        return key in self._kept

    def let_go(self, key: bytes) -> None:
        """Takes `keep` back."""
        self._kept.discard(key)

    def resize(self, slots: int) -> None:
        """So many slots may be used from now on; `shrink` has to be called until nothing is left
        `outside`."""
        self._free.resize(slots)
        self.policy.resize(slots)

    def shrink(self, pages_max: int, *, unsaved: bool) -> None:
        """Evicts or moves up to `pages_max` pages that are too many for a smaller size. `unsaved`:
        also evicts those that the disk should have and has not got yet."""
        left = min(self.over, pages_max)
        for key in self.oldest(left + len(self._pins)):  # those being saved stay until they are
            copy = self._pages[key].disk_copy
            if left and (copy in _MAY_GO or (unsaved and copy is DiskCopy.NONE)):
                self._evict(key)
                left -= 1
        if self.over or not self.outside:
            return
        leaving = (
            s for s in self._free.places_outside if s in self._key_of and s not in self._pins
        )
        for slot in list(islice(leaving, min(pages_max, len(self._free)))):
            self._move(slot)

    def forget_disk(self) -> None:
        """There is no disk any more that could have, or get, a page."""
        for page in self._pages.values():
            if page.disk_copy is not DiskCopy.SAVING:
                page.disk_copy = DiskCopy.UNWANTED

    def clear(self) -> list[bytes]:
        """Forgets all pages but those in pinned slots; the keys of what went."""
        gone = [key for key, page in self.pages() if page.slot not in self._pins]
        for key in gone:
            self.drop(key)
        return gone

    def reorder(self, keys: Sequence[bytes]) -> None:
        """A chain, head first, was used and has grown: puts its pages behind their parents."""
        now = self._clock()
        for key in reversed(keys):
            page = self._pages.get(key)
            if page is not None:
                page.last_use = now
                self.policy.reorder(key)

    def drop(self, key: bytes) -> None:
        """Forgets a page that must not be used again; its slot must not be pinned."""
        self.policy.discard(key)
        self._vacate(key)

    def pieces(self, slot: int) -> list[tuple[int, int]]:
        """(address, length) of each rank's part of the slot."""
        return self._arena.pieces(slot)

    def check(self) -> None:
        """Raises AssertionError if a slot is lost or counted twice."""
        held = set(self._key_of)
        assert not held & self._reserved
        self._free.check(held | self._reserved)
        assert set(self._pins) <= held | self._reserved, "a free slot is pinned"
        assert {k: s for s, k in self._key_of.items()} == {k: p.slot for k, p in self.pages()}
        assert len(self.policy) == len(self._pages)
        for _, page in self.pages():
            assert page.disk_copy is not DiskCopy.SAVING or page.slot in self._pins

    def _is_idle(self, key: bytes) -> bool:
        """Being saved is no use: the page is neither kept for it nor more recent."""
        page = self._pages[key]
        pins = self._pins.get(page.slot, 0)
        return pins == (page.disk_copy is DiskCopy.SAVING) and key not in self._kept

    def _victim(self) -> bytes | None:
        """Without a disk, and mostly with one, the oldest; else the oldest of the window that the
        disk need not get, else the oldest that it is not just getting."""
        for count in (1, self.window):
            for key in self.oldest(count):
                if self._pages[key].disk_copy in _MAY_GO:
                    return key
        for count in (self.window, self.slots):
            for key in self.oldest(count):
                if self._pages[key].disk_copy is not DiskCopy.SAVING:
                    return key
        return None

    def _adopt(self) -> None:
        entries, now = self._arena.entries(), self._clock()
        for entry in entries:
            if entry.key in self._pages:
                self._arena.retract(entry.slot)
                continue
            link = Link(entry.parent)
            self._pages[entry.key] = HostPage(entry.slot, link, DiskCopy.UNWANTED, now)
            self._key_of[entry.slot] = entry.key
            self.policy.insert(entry.key)
            self._unverified.add(entry.slot)
        self.adopted = len(self._pages)

    def _evict(self, key: bytes) -> None:
        self.departures.evicted(key, self._pages[key].last_use, self._clock())
        self.unsaved += self._pages[key].disk_copy is DiskCopy.NONE
        self.policy.evict(key)
        self._vacate(key)

    def _move(self, slot: int) -> None:
        """The page goes to a free slot as it is, checked or not."""
        to, key = self._free.take(), self._key_of.pop(slot)
        self._arena.move(slot, to)
        self._pages[key].slot = to
        self._key_of[to] = key
        if slot in self._unverified:
            self._unverified.remove(slot)
            self._unverified.add(to)
        self._free.give_back(slot)

    def _vacate(self, key: bytes) -> None:
        slot = self._pages.pop(key).slot
        del self._key_of[slot]
        assert slot not in self._pins, "a pinned slot cannot be given away"
        self._unverified.discard(slot)
        self._arena.retract(slot)
        self._free.give_back(slot)
