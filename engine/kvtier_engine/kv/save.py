"""L2 -> L3: which pages are written to the disk, and when."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from kvtier_engine.config import L3Write
from kvtier_engine.kv.admit import Admission, Uses
from kvtier_engine.kv.disk import DiskTier, Saved, SaveOutcome
from kvtier_engine.kv.host import DiskCopy, HostPage, HostTier

SAVES_IN_FLIGHT_MAX = 128  # the store takes 256
SHRINK_AHEAD = 512  # pages that are written ahead when L2 is made smaller
RETRY_S = 5.0  # after the disk has refused a page
LOOK_S = 0.05  # between two looks at the oldest pages while nothing happens


@dataclass(frozen=True, slots=True)
class SaveRules:
    """How an operator wants the disk written."""

    write: L3Write = "on_evict"
    admission: Admission | None = None  # none: everything is admitted


class Saver:
    """Keeps what L2 loses, as far as the disk keeps up.

    `on_evict`: a page is written when L2 is about to evict it. L2 cannot wait for that when it
    needs a slot, so the pages next to go are written ahead: twice as many as steps have lately
    needed slots, since those of one step are written while the next one needs those of the step
    before; half of L2 at most. `write_through`: a page is written when it comes. Either
    way, one that has not been written when L2 must evict it is lost (`HostTier.unsaved`); one that
    the disk refuses is offered again after a while; one that is not admitted, when it is used
    again. Never waits.
    """

    def __init__(
        self, host: HostTier, disk: DiskTier, rules: SaveRules, clock: Callable[[], float]
    ) -> None:
        self._host = host
        self._disk = disk
        self._write = rules.write
        self.admission = rules.admission
        self._clock = clock
        self._queue: dict[bytes, None] = {}  # pages to offer, in this order
        self._is_flushing = False
        self._saving = 0
        self._paused_until = 0.0
        self._has_news = True  # since the oldest pages were looked at
        self._look_again = 0.0
        self._slots_needed = 0.0  # by a step that needs any: the most of late
        self._reservations_seen = host.reservations
        self.saved = 0
        self.refused = 0  # times that the disk did not take a page
        self.not_admitted = 0  # times that admission, or the disk's own rule, did not want one
        for key, page in host.pages():  # what an earlier engine left
            page.disk_copy = DiskCopy.NONE
            self.arrived(key)

    def arrived(self, key: bytes) -> None:
        """A page that the disk is to have is in L2. One that is never evicted goes at once."""
        if self._is_flushing or self._write == "write_through" or self._host.is_kept(key):
            self._queue[key] = None

    def kept(self, keys: Iterable[bytes]) -> None:
        """Pages are not evicted from now on: those that the disk has not are written."""
        for key in keys:
            page = self._host.page(key)
            if page is not None and page.disk_copy in (DiskCopy.NONE, DiskCopy.UNWANTED):
                page.disk_copy = DiskCopy.NONE
                self._queue[key] = None

    def used(self, keys: Sequence[bytes], found: int, from_disk: set[bytes], chain: int) -> None:
        """A request begins whose first `found` of `keys` were in a tier, some of them brought
        from the disk for it; it has `chain` pages. What the disk did not want is offered again."""
        for key in keys[:found]:
            page = self._host.page(key)
            if page is None:
                continue
            page.was_used = True
            page.link = replace(page.link, chain_pages=chain)
            if page.disk_copy is DiskCopy.UNWANTED:
                page.disk_copy = DiskCopy.NONE
                self._has_news = True
                self.arrived(key)
        if self.admission is not None:
            uses = Uses(keys[:found], keys[found:], from_disk)
            self.admission.used(uses, self._clock())

    def pump(self) -> None:
        """Hands pages to the disk, as many as it may have at a time."""
        ahead = self._slots_ahead()
        if self._is_paused:
            return
        if ahead and self._is_time_to_look():
            self._offer(self._host.oldest(ahead))
        while self._queue and (room := self._room) > 0:
            batch = [key for key, _ in zip(self._queue, range(room), strict=False)]
            for key in batch:
                del self._queue[key]
            self._offer(batch)

    def finish(self, saved: Saved) -> None:
        """A write has ended: its slot may be evicted again."""
        self._saving -= 1
        self._has_news = True
        self._host.unpin(saved.slot)
        page = self._host.page(saved.key)
        assert page is not None and page.disk_copy is DiskCopy.SAVING, "its slot was pinned"
        match saved.outcome:
            case SaveOutcome.STORED:
                self.saved += 1
                page.disk_copy = DiskCopy.PRESENT
                if self.admission is not None:
                    self.admission.stored(saved.key, self._clock())
            case SaveOutcome.NOT_ADMITTED:
                self.not_admitted += 1
                page.disk_copy = DiskCopy.UNWANTED
            case SaveOutcome.REFUSED:
                self.refused += 1
                page.disk_copy = DiskCopy.NONE
                if self._is_flushing or self._write == "write_through":
                    self._queue[saved.key] = None
                self._paused_until = self._clock() + RETRY_S

    def is_moving(self, key: bytes) -> bool:
        """The page is being written."""
        page = self._host.page(key)
        return page is not None and page.disk_copy is DiskCopy.SAVING

    def forget(self, key: bytes) -> None:
        """The page is dropped: it need not reach the disk any more."""
        self._queue.pop(key, None)

    def flush(self) -> None:
        """The engine stops: offers all that L2 alone holds, the most recent first (and so every
        page before those that follow it). `pump` goes on with it until nothing is in flight."""
        self._is_flushing = True
        self._queue = dict.fromkeys(reversed(self._host.oldest(self._host.held)))

    @property
    def in_flight(self) -> int:
        """Writes that have not ended, and pages that wait for one; without those that the disk
        has refused."""
        return self._saving + (0 if self._is_paused else len(self._queue))

    @property
    def _room(self) -> int:
        """A quarter of L2 at most is written at a time: a disk that hangs must not pin it whole."""
        most = min(SAVES_IN_FLIGHT_MAX, max(1, self._host.slots // 4))
        return max(0, most - self._saving)  # L2 may have become smaller

    @property
    def _is_paused(self) -> bool:
        return self._clock() < self._paused_until

    def _slots_ahead(self) -> int:
        """How many of the oldest pages L2 may soon have to evict; tells L2 as well."""
        needed = self._host.reservations - self._reservations_seen
        self._reservations_seen = self._host.reservations
        self._has_news = self._has_news or needed > 0
        if needed:
            self._slots_needed = max(needed, self._slots_needed * 31 / 32)
        ahead = 1 + math.ceil(2 * self._slots_needed)
        too_many = min(self._host.over, SHRINK_AHEAD)
        self._host.window = max(too_many, min(max(1, self._host.slots // 2), ahead))
        return max(too_many, self._host.window - self._host.free)

    def _is_time_to_look(self) -> bool:
        """Whether the oldest pages may be others by now, or not be on disk any more."""
        now = self._clock()
        if self._write != "on_evict" or self._is_flushing:
            return False
        if not self._has_news and now < self._look_again:
            return False
        self._has_news = False
        self._look_again = now + LOOK_S
        return True

    def _offer(self, keys: Iterable[bytes]) -> None:
        """Writes those that the disk has not and should have."""
        known = (DiskCopy.NONE, DiskCopy.PRESENT)
        pages = [(key, page) for key in keys if (page := self._host.page(key)) is not None]
        open_ = [(key, page) for key, page in pages if page.disk_copy in known]
        present = self._disk.contains([key for key, _ in open_])
        for (key, page), is_present in zip(open_, present, strict=True):
            if is_present:
                page.disk_copy = DiskCopy.PRESENT
            elif not self._room:
                page.disk_copy = DiskCopy.NONE
            elif self._is_admitted(key, page):
                self._save(key, page)
            else:
                self.not_admitted += 1
                page.disk_copy = DiskCopy.UNWANTED

    def _is_admitted(self, key: bytes, page: HostPage) -> bool:
        admission = self.admission
        wanted = page.was_used or self._is_flushing  # at the end there is no second chance
        return admission is None or admission.admits(key, wanted, self._clock())

    def _save(self, key: bytes, page: HostPage) -> None:
        slot = self._host.find(key)
        if slot is None:
            return  # adopted, and its bytes were bad
        self._host.pin(slot)
        page.disk_copy = DiskCopy.SAVING
        self._saving += 1
        pieces, link = self._host.pieces(slot), page.link
        self._disk.save(key, link.parent, slot, pieces, chain_pages=link.chain_pages)
