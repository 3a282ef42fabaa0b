"""L3 -> L2: reads pages that requests will need, each page once, the last ones first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kvtier_engine.kv.disk import DiskTier, Loaded
from kvtier_engine.kv.host import DiskCopy, HostTier, Link
from kvtier_engine.kv.keys import NO_PARENT

STALL_S = 10.0  # a request whose reads bring nothing for so long goes on without them
AHEAD_S = 0.5  # reads are handed to the disk for so long ahead,
AHEAD_PAGES = (8, 64)  # but at least and at most so many


@dataclass(slots=True, eq=False)
class Lookup:
    """What one request found below L1. `pins` are L2 slots kept for it."""

    heard: float  # when it began, or when a page of it last arrived
    wanted: list[bytes] = field(default_factory=list)  # on disk, not asked for yet; in chain order
    pending: set[bytes] = field(default_factory=set)  # on their way from L3
    from_disk: set[bytes] = field(default_factory=set)  # came from L3 for it
    failed: set[bytes] = field(default_factory=set)  # that L3 could not give
    landed: list[bytes] = field(default_factory=list)  # came, and were not looked at yet
    pins: dict[bytes, int] = field(default_factory=dict)
    from_front: bool = False  # the first pages are read first
    chain_pages: int = 0
    parent_of: dict[bytes, bytes] = field(default_factory=dict)  # of those that were wanted

    @property
    def coming(self) -> int:
        """Pages that are still to arrive."""
        return len(self.wanted) + len(self.pending)

    def is_coming(self, key: bytes) -> bool:
        return key in self.pending or key in self.wanted


@dataclass(slots=True)
class _Flight:
    slot: int
    link: Link
    began: float
    waiters: list[Lookup]


class Prefetcher:
    """One flight per page, however many requests wait for it.

    A request's pages are read from the last to the first: the first ones may be computed meanwhile
    (kv/meeting.py). As L2 evicts a chain from its tail, that is mostly the order in which they lie
    on disk, side by side. Earlier requests go first.

    Requests pin at most half of L2, so that offloads find slots; a page in L2 that would need more
    is left unpinned (it may be evicted before the request is admitted), one on disk waits. Reads
    that hang hold their slot, but neither their request nor any other.
    """

    def __init__(self, host: HostTier, clock: Callable[[], float]) -> None:
        self._host = host
        self.disk: DiskTier | None = None  # as long as there is one
        self._clock = clock
        self._flights: dict[bytes, _Flight] = {}
        self._lookups: dict[Lookup, None] = {}  # in the order of their arrival
        self.pages_per_s: float | None = None  # of the disk, as last measured

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    @property
    def is_waited_for(self) -> bool:
        """Some request has a lookup."""
        return bool(self._lookups)

    @property
    def _is_full(self) -> bool:
        """The disk has as many reads as it may have. Those that hang do not count."""
        if len(self._flights) < AHEAD_PAGES[0]:
            return False
        now = self._clock()
        at_work = sum(now - flight.began <= STALL_S for flight in self._flights.values())
        return at_work >= self._flights_max()

    def is_moving(self, key: bytes) -> bool:
        """The page is on its way from L3."""
        return key in self._flights

    def ahead_of(self, lookup: Lookup) -> int:
        """Pages that are read before the last of this request's."""
        ahead = len(self._flights.keys() - lookup.pending)
        for other in self._lookups:
            if other is lookup:
                break
            ahead += len(other.wanted)
        return ahead

    def start(
        self,
        keys: Sequence[bytes],
        in_l1: Sequence[bool],
        *,
        parent: bytes = NO_PARENT,
        from_front: bool = False,
    ) -> Lookup:
        """Pins the pages of the chain `keys`, which goes on from `parent`, that are in L2 and wants
        those in L3, up to the first page that is in no tier. `in_l1` pages need nothing.
        `from_front`: nothing is computed meanwhile."""
        lookup = Lookup(heard=self._clock(), from_front=from_front, chain_pages=len(keys))
        self._lookups[lookup] = None
        on_disk: list[bool] | None = None
        for index, key in enumerate(keys):
            if in_l1[index] or self._pin(lookup, key):
                continue
            if key not in self._flights:
                if self.disk is None:
                    break
                if on_disk is None:
                    on_disk = [False] * index + self.disk.contains(keys[index:])
                if not on_disk[index]:
                    break
            lookup.wanted.append(key)
            lookup.parent_of[key] = keys[index - 1] if index else parent
        self.pump()
        return lookup

    def pump(self) -> None:
        """Asks the disk for what is wanted, as far as it is worth it now."""
        for lookup in self._lookups:
            batch: list[bytes] = []
            end = 0 if lookup.from_front else -1
            while lookup.wanted and self._ask(lookup, lookup.wanted[end], batch):
                lookup.wanted.pop(end)
            if batch and self.disk is not None:
                slots = [(key, self._flights[key].slot) for key in batch]
                self.disk.load([(key, slot, self._host.pieces(slot)) for key, slot in slots])

    def finish(self, loaded: Loaded) -> None:
        """A read has ended: those who wait for the page get it, or go without."""
        flight = self._flights.pop(loaded.key)
        slot = self._land(loaded, flight.link)
        for lookup in flight.waiters:
            lookup.heard = self._clock()
            lookup.pending.discard(loaded.key)
            if slot is None:
                lookup.failed.add(loaded.key)
            else:
                self._arrived(lookup, loaded.key, slot)
                lookup.from_disk.add(loaded.key)

    def is_over(self, lookup: Lookup) -> bool:
        """True if no more pages arrive for the request as things are: all its reads have ended, or
        they bring nothing and are given up, or those that are left find no slot."""
        if lookup.pending and self._clock() - lookup.heard > STALL_S:
            lookup.failed |= lookup.pending
            self._leave(lookup)
        if lookup.pending:
            return False
        return not lookup.wanted or not self._is_full

    def pause(self, lookup: Lookup) -> None:
        """The request waits for another one to compute what it needs: nothing is kept or read for
        it any more."""
        self._leave(lookup)
        lookup.wanted.clear()
        self.settle(lookup)

    def drop_wanted(self) -> None:
        """The disk is asked for nothing more: who waits for that goes without. Reads go on."""
        for lookup in self._lookups:
            lookup.failed.update(lookup.wanted)
            lookup.wanted.clear()

    def limit(self, lookup: Lookup, lacks: set[bytes]) -> None:
        """Nothing but the pages that it lacks is read for the request."""
        lookup.wanted = [key for key in lookup.wanted if key in lacks]
        for key in lookup.pending - lacks:
            self.give_up(lookup, key)

    def give_up(self, lookup: Lookup, key: bytes) -> bool:
        """The request computes the page itself. False if it did not wait for it."""
        if key in lookup.pending:
            lookup.pending.discard(key)
            self._flights[key].waiters.remove(lookup)
        elif key in lookup.wanted:
            lookup.wanted.remove(key)
        else:
            return False
        return True

    def settle(self, lookup: Lookup) -> None:
        """The request has seen all that has arrived so far: no slot is kept for it any more."""
        lookup.landed.clear()
        for slot in lookup.pins.values():
            self._host.unpin(slot)
        lookup.pins.clear()

    def end(self, lookup: Lookup) -> None:
        """The request has all it gets, or went away: its slots may be evicted again. Reads under
        way go on, for the next who asks."""
        self._lookups.pop(lookup, None)
        self._leave(lookup)
        lookup.wanted.clear()
        self.settle(lookup)

    def _leave(self, lookup: Lookup) -> None:
        for key in lookup.pending:
            self._flights[key].waiters.remove(lookup)
        lookup.pending.clear()

    def _arrived(self, lookup: Lookup, key: bytes, slot: int) -> None:
        self._host.pin(slot)
        lookup.pins[key] = slot
        lookup.landed.append(key)

    def _pin(self, lookup: Lookup, key: bytes) -> bool:
        slot = self._host.find(key)
        if slot is None:
            return False
        if self._host.is_pinned(slot) or self._host.pinned < self._slots_max:
            self._host.pin(slot)
            lookup.pins[key] = slot
        return True

    def _ask(self, lookup: Lookup, key: bytes, batch: list[bytes]) -> bool:
        """Sees to the arrival of a wanted page: True if nothing more has to be done for it."""
        slot = self._host.find(key)
        if slot is not None:  # computed and offloaded meanwhile, or read for somebody else
            self._arrived(lookup, key, slot)
            return True
        if key in self._flights:
            self._join(lookup, key)
            return True
        if self.disk is None or self._is_full or self._host.pinned >= self._slots_max:
            return False
        slot = self._host.reserve(key)
        if slot is None:
            return False
        link = Link(lookup.parent_of[key], lookup.chain_pages)
        self._flights[key] = _Flight(slot, link, self._clock(), [lookup])
        self._wait(lookup, key)
        batch.append(key)
        return True

    def _wait(self, lookup: Lookup, key: bytes) -> None:
        if not lookup.pending:
            lookup.heard = self._clock()
        lookup.pending.add(key)

    @property
    def _slots_max(self) -> int:
        return max(1, self._host.slots // 2)

    def _flights_max(self) -> int:
        least, most = AHEAD_PAGES
        return max(least, min(most, int((self.pages_per_s or 0.0) * AHEAD_S)))

    def _join(self, lookup: Lookup, key: bytes) -> None:
        """Waits with others for a page; not for one whose read hangs."""
        flight = self._flights[key]
        if self._clock() - flight.began > STALL_S:
            lookup.failed.add(key)
            return
        flight.waiters.append(lookup)
        self._wait(lookup, key)

    def _land(self, loaded: Loaded, link: Link) -> int | None:
        """The slot that now holds the page; None if the read failed."""
        present = self._host.find(loaded.key)  # computed and offloaded while the disk was busy
        if not loaded.ok or present is not None:
            self._host.abandon(loaded.slot)
            return present
        self._host.publish(loaded.slot, loaded.key, link, DiskCopy.PRESENT)
        self._host.unpin(loaded.slot)
        return loaded.slot
