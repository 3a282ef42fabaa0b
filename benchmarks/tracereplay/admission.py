"""What the engine writes to its disk, and what it finds there: L2, the saver and its admission rule
as they are, over a disk that is an index alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from kvtier_engine.kv.admit import Admission
from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.kv.host import DiskCopy, HostTier, Link
from kvtier_engine.kv.policy import Lru
from kvtier_engine.kv.save import Saver, SaveRules
from kvtier_store import Status
from tracereplay.books import NoMemory
from tracereplay.trace import Chain, Trace

STEP_PAGES = 4  # that come to L2 before the saver has its turn


class SlotsAlone(NoMemory):
    def pieces(self, _: int) -> list[tuple[int, int]]:
        return []


class IndexStore:
    """A page store whose writes end at once, and which evicts the least recently used."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._pages: OrderedDict[bytes, None] = OrderedDict()
        self._ended: list[Any] = []
        self.written = 0

    def __contains__(self, key: bytes) -> bool:
        return key in self._pages

    def contains(self, keys: Sequence[bytes]) -> list[bool]:
        return [key in self._pages for key in keys]

    def touch(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            if key in self._pages:
                self._pages.move_to_end(key)

    def submit_put(self, batch: Sequence[Any]) -> None:
        for put in batch:
            if len(self._pages) == self._capacity:
                self._pages.popitem(last=False)
            self._pages[put.key] = None
            self.written += 1
            self._ended.append(SimpleNamespace(ticket=put.ticket, status=Status.OK))

    def poll(self) -> list[Any]:
        ended, self._ended = self._ended, []
        return ended


@dataclass(frozen=True, slots=True)
class Outcome:
    hits: int  # blocks found in L2 or L3
    written: int  # pages


class TwoTiers:
    """L2 over L3, without L1."""

    def __init__(self, l2_pages: int, l3_pages: int, admission: Admission | None) -> None:
        self._now = 0.0
        self._host = HostTier(cast("Any", SlotsAlone(l2_pages)), Lru())
        self._store = IndexStore(l3_pages)
        self._disk = DiskTier(cast("Any", self._store))
        rules = SaveRules(admission=admission)
        self._saver = Saver(self._host, self._disk, rules, lambda: self._now)

    def replay(self, trace: Trace) -> Outcome:
        hits = 0
        for self._now, chain in zip(trace.times, trace.chains, strict=True):
            hits += self._request(chain)
        self._host.check()
        return Outcome(hits, self._store.written)

    def _request(self, chain: Chain) -> int:
        """As in the engine: what is found on disk comes to L2, then the request begins, then its
        missing pages are computed; at its end its chain is put in order."""
        found = next((i for i, key in enumerate(chain) if not self._has(key)), len(chain))
        from_disk = {key for key in chain[:found] if self._host.find(key) is None}
        self._host.touch(chain)
        self._add(chain[:found], DiskCopy.PRESENT)
        self._host.touch(chain)
        self._disk.touch(chain)
        self._saver.used(chain, found, from_disk, len(chain))
        self._add(chain[found:], DiskCopy.NONE)
        self._host.reorder(chain)
        self._disk.touch(chain)
        return found

    def _has(self, key: bytes) -> bool:
        return self._host.find(key) is not None or key in self._store

    def _add(self, keys: Chain, copy: DiskCopy) -> None:
        missing = [key for key in reversed(keys) if self._host.find(key) is None]
        for number, key in enumerate(missing, 1):
            slot = self._host.reserve(key)
            assert slot is not None, "no slot is pinned: writes have ended"
            self._host.publish(slot, key, Link(), copy)
            self._host.unpin(slot)
            if number % STEP_PAGES == 0 or number == len(missing):
                self._save()

    def _save(self) -> None:
        self._saver.pump()
        for saved in self._disk.poll()[1]:
            self._saver.finish(saved)


def admission_outcome(trace: Trace, percent: float, times: int, *, is_choosy: bool) -> Outcome:
    """With L2 of so many percent of the unique blocks, and L3 of so many times that."""
    l2_pages = trace.pages(percent)
    admission = Admission(
        times * l2_pages, slot_bytes=1, memory_pages=l2_pages, is_choosy=is_choosy
    )
    return TwoTiers(l2_pages, times * l2_pages, admission).replay(trace)
