"""L3 -> L2: reads pages that waiting requests will need, each page once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kvtier_engine.kv.disk import DiskTier, Loaded
from kvtier_engine.kv.host import HostTier


@dataclass(slots=True, eq=False)
class Lookup:
    """What one waiting request found. `pins` are L2 slots kept for it until it is admitted."""

    pending: set[bytes] = field(default_factory=set)  # pages on their way from L3
    from_disk: set[bytes] = field(default_factory=set)  # pages that came from L3 for it
    pins: list[int] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return not self.pending


@dataclass(slots=True)
class _Flight:
    slot: int
    waiters: list[Lookup]


class Prefetcher:
    """One flight per page, however many requests wait for it.

    Waiting requests may pin at most half of L2, so that offloads always find slots; a
    request that gets none takes what it has and computes the rest.
    """

    def __init__(self, host: HostTier, disk: DiskTier | None) -> None:
        self._host = host
        self._disk = disk
        self._flights: dict[bytes, _Flight] = {}
        self._slots_max = max(1, host.slots // 2)

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    def start(self, keys: Sequence[bytes], in_l1: Sequence[bool]) -> Lookup:
        """Pins the pages of the chain `keys` that are in L2 and starts to read those in L3,
        up to the first page that is in no tier. `in_l1` pages need nothing."""
        lookup = Lookup()
        on_disk: list[bool] | None = None
        batch = []
        for index, key in enumerate(keys):
            if in_l1[index] or self._pin(lookup, key) or self._join(lookup, key):
                continue
            if self._disk is None:
                break
            if on_disk is None:
                on_disk = [False] * index + self._disk.contains(keys[index:])
            slot = self._reserve() if on_disk[index] else None
            if slot is None:
                break
            self._flights[key] = _Flight(slot, [lookup])
            lookup.pending.add(key)
            batch.append((key, slot, self._host.pieces(slot)))
        if batch and self._disk is not None:
            self._disk.load(batch)
        return lookup

    def finish(self, loaded: Loaded) -> None:
        """A read has ended: those who wait for the page get it, or go without."""
        flight = self._flights.pop(loaded.key)
        slot = self._land(loaded)
        for lookup in flight.waiters:
            lookup.pending.discard(loaded.key)
            if slot is not None:
                self._host.pin(slot)
                lookup.pins.append(slot)
                lookup.from_disk.add(loaded.key)

    def end(self, lookup: Lookup) -> None:
        """The request was admitted or went away: its slots may be evicted again. Reads under
        way go on, for the next who asks."""
        for key in lookup.pending:
            self._flights[key].waiters.remove(lookup)
        lookup.pending.clear()
        for slot in lookup.pins:
            self._host.unpin(slot)
        lookup.pins.clear()

    def _pin(self, lookup: Lookup, key: bytes) -> bool:
        slot = self._host.find(key)
        if slot is None:
            return False
        self._host.pin(slot)
        lookup.pins.append(slot)
        return True

    def _join(self, lookup: Lookup, key: bytes) -> bool:
        flight = self._flights.get(key)
        if flight is None:
            return False
        flight.waiters.append(lookup)
        lookup.pending.add(key)
        return True

    def _reserve(self) -> int | None:
        return self._host.reserve() if self._host.pinned < self._slots_max else None

    def _land(self, loaded: Loaded) -> int | None:
        """The slot that now holds the page; None if the read failed."""
        present = self._host.find(loaded.key)  # computed and offloaded while the disk was busy
        if not loaded.ok or present is not None:
            self._host.abandon(loaded.slot)
            return present
        self._host.publish(loaded.slot, loaded.key)
        self._host.unpin(loaded.slot)
        return loaded.slot
