"""L3: pages on disk, through the native page store. Reads and writes end by `poll`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from kvtier_store import Get, Put, Status

if TYPE_CHECKING:
    from kvtier_store import DirectoryStats, Store, StoreStats

Pieces = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A read ended: the slot's memory may be used again, and holds the page if `ok`."""

    key: bytes
    slot: int
    ok: bool


class SaveOutcome(Enum):
    STORED = "the page is on disk"
    NOT_ADMITTED = "the admission rule does not want it yet; it may be offered again when used"
    REFUSED = "the disk could not take it; it may be offered again later"


_OUTCOMES = {
    Status.OK: SaveOutcome.STORED,
    Status.ALREADY_PRESENT: SaveOutcome.STORED,
    Status.NOT_ADMITTED: SaveOutcome.NOT_ADMITTED,
}


@dataclass(frozen=True, slots=True)
class Saved:
    """A write ended, one way or the other: the store no longer reads the slot's memory."""

    key: bytes
    slot: int
    outcome: SaveOutcome


class DiskTier:
    """A thin face on the store: keys and slots instead of tickets."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next_ticket = 0
        self._loads: dict[int, tuple[bytes, int]] = {}
        self._saves: dict[int, tuple[bytes, int]] = {}

    def contains(self, keys: Sequence[bytes]) -> list[bool]:
        """Which keys are present, by the index; a read may still find a page bad."""
        return self._store.contains(keys)

    def load(self, pages: Sequence[tuple[bytes, int, Pieces]]) -> None:
        """Reads pages, given as (key, slot, the slot's pieces), in this order."""
        batch = []
        for key, slot, pieces in pages:
            ticket = self._ticket()
            self._loads[ticket] = (key, slot)
            batch.append(Get(ticket, key, pieces))
        self._store.submit_get(batch)

    def save(
        self, key: bytes, parent: bytes, slot: int, pieces: Pieces, *, chain_pages: int
    ) -> None:
        """Writes the page in `slot`, which must keep its bytes until the save has ended.
        `chain_pages`: of the chain that it is offered with."""
        ticket = self._ticket()
        self._saves[ticket] = (key, slot)
        self._store.submit_put([Put(ticket, key, parent, pieces, chain_pages)])

    def poll(self) -> tuple[list[Loaded], list[Saved]]:
        """What has ended since the last call; never waits."""
        loaded, saved = [], []
        for completion in self._store.poll():
            if completion.ticket in self._loads:
                key, slot = self._loads.pop(completion.ticket)
                loaded.append(Loaded(key, slot, completion.status == Status.OK))
            else:
                key, slot = self._saves.pop(completion.ticket)
                outcome = _OUTCOMES.get(completion.status, SaveOutcome.REFUSED)
                saved.append(Saved(key, slot, outcome))
        return loaded, saved

    @property
    def in_flight(self) -> int:
        return len(self._loads) + len(self._saves)

    def touch(self, keys: Sequence[bytes]) -> None:
        """A chain, head first, was used."""
        self._store.touch(list(reversed(keys)))

    def evict(self, keys: Sequence[bytes]) -> None:
        """Drops pages; those that are pinned or being written stay."""
        self._store.evict(keys)

    def pin(self, keys: Sequence[bytes]) -> None:
        """Those that are there are not evicted until they are unpinned as often."""
        self._store.pin(keys)

    def unpin(self, keys: Sequence[bytes]) -> None:
        self._store.unpin(keys)

    def clear(self) -> int:
        """Drops all pages, pinned ones as well; how many. StoreError if a directory out of use
        keeps its own."""
        return self._store.clear()

    def event_fd(self) -> int:
        """Readable when `poll` has something to return."""
        return self._store.event_fd()

    def reads(self) -> list[DirectoryStats]:
        """What each disk in use has read for us, and for how long it was at it."""
        return [each for each in self.stats().directories if each.reads_in_use]

    @property
    def page_bytes(self) -> int:
        return self._store.page_bytes

    def stats(self) -> StoreStats:
        return self._store.stats()

    def close(self) -> None:
        """Makes what was written durable and gives the directories back."""
        self._store.close()

    def _ticket(self) -> int:
        self._next_ticket += 1
        return self._next_ticket
