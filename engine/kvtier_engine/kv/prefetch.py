"""L3 -> L2: reads pages that waiting requests will need, each page once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kvtier_engine.kv.disk import DiskTier, Loaded
from kvtier_engine.kv.host import DiskCopy, HostTier, Link
from kvtier_engine.kv.keys import NO_PARENT

STALL_S = 10.0  # a request whose reads bring nothing for so long goes on without them


@dataclass(slots=True, eq=False)
class Lookup:
    """What one waiting request found. `pins` are L2 slots kept for it until it is admitted."""

    heard: float  # when it began, or when a page of it last arrived
    pending: set[bytes] = field(default_factory=set)  # pages on their way from L3
    from_disk: set[bytes] = field(default_factory=set)  # pages that came from L3 for it
    failed: set[bytes] = field(default_factory=set)  # pages that L3 could not give
    pins: list[int] = field(default_factory=list)
    is_cut: bool = False  # L2 had no slot for a page that is on disk

    @property
    def done(self) -> bool:
        return not self.pending


@dataclass(slots=True)
class _Flight:
    slot: int
    link: Link
    began: float
    waiters: list[Lookup]


class Prefetcher:
    """One flight per page, however many requests wait for it.

    Waiting requests pin at most half of L2, so that offloads find slots; a page that
    would need more is left unpinned (it may be evicted before the request is admitted) or
    unread. Reads that hang hold their slot, but neither their request nor any other.
    """

    def __init__(self, host: HostTier, disk: DiskTier | None, clock: Callable[[], float]) -> None:
        self._host = host
        self._disk = disk
        self._clock = clock
        self._flights: dict[bytes, _Flight] = {}
        self._slots_max = max(1, host.slots // 2)

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    def start(self, keys: Sequence[bytes], in_l1: Sequence[bool]) -> Lookup:
        """Pins the pages of the chain `keys` that are in L2 and starts to read those in L3,
        up to the first page that is in no tier. `in_l1` pages need nothing."""
        lookup = Lookup(heard=self._clock())
        on_disk: list[bool] | None = None
        batch = []
        for index, key in enumerate(keys):
            if in_l1[index] or self._pin(lookup, key):
                continue
            if key in self._flights:
                if not self._join(lookup, key):
                    break
                continue
            if self._disk is None:
                break
            if on_disk is None:
                on_disk = [False] * index + self._disk.contains(keys[index:])
            if not on_disk[index]:
                break
            slot = self._reserve(key)
            if slot is None:
                lookup.is_cut = True
                break
            link = Link(keys[index - 1] if index else NO_PARENT, len(keys))
            self._flights[key] = _Flight(slot, link, lookup.heard, [lookup])
            lookup.pending.add(key)
            batch.append((key, slot, self._host.pieces(slot)))
        if batch and self._disk is not None:
            self._disk.load(batch)
        return lookup

    def finish(self, loaded: Loaded) -> None:
        """A read has ended: those who wait for the page get it, or go without."""
        flight = self._flights.pop(loaded.key)
        slot = self._land(loaded, flight.link)
        for lookup in flight.waiters:
            lookup.heard = self._clock()
            lookup.pending.discard(loaded.key)
            if slot is None:
                lookup.failed.add(loaded.key)
                continue
            self._host.pin(slot)
            lookup.pins.append(slot)
            lookup.from_disk.add(loaded.key)

    def is_ready(self, lookup: Lookup) -> bool:
        """True if the request waits for nothing more: all its reads have ended, or they bring
        nothing and are given up."""
        if lookup.pending and self._clock() - lookup.heard > STALL_S:
            lookup.failed |= lookup.pending
            self._leave(lookup)
        return lookup.done

    def end(self, lookup: Lookup) -> None:
        """The request was admitted or went away: its slots may be evicted again. Reads under
        way go on, for the next who asks."""
        self._leave(lookup)
        for slot in lookup.pins:
            self._host.unpin(slot)
        lookup.pins.clear()

    def _leave(self, lookup: Lookup) -> None:
        for key in lookup.pending:
            self._flights[key].waiters.remove(lookup)
        lookup.pending.clear()

    def _pin(self, lookup: Lookup, key: bytes) -> bool:
        slot = self._host.find(key)
        if slot is None:
            return False
        if self._host.is_pinned(slot) or self._host.pinned < self._slots_max:
            self._host.pin(slot)
            lookup.pins.append(slot)
        return True

    def _join(self, lookup: Lookup, key: bytes) -> bool:
        """Waits with others for a page; not for one whose read hangs."""
        flight = self._flights[key]
        if self._clock() - flight.began > STALL_S:
            lookup.failed.add(key)
            return False
        flight.waiters.append(lookup)
        lookup.pending.add(key)
        return True

    def _reserve(self, key: bytes) -> int | None:
        return self._host.reserve(key) if self._host.pinned < self._slots_max else None

    def _land(self, loaded: Loaded, link: Link) -> int | None:
        """The slot that now holds the page; None if the read failed."""
        present = self._host.find(loaded.key)  # computed and offloaded while the disk was busy
        if not loaded.ok or present is not None:
            self._host.abandon(loaded.slot)
            return present
        self._host.publish(loaded.slot, loaded.key, link, DiskCopy.PRESENT)
        self._host.unpin(loaded.slot)
        return loaded.slot
