"""L1 -> L2 -> L3: every full page is copied down, in the background of the steps."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvtier_engine.kv.disk import DiskTier, Saved, SaveOutcome
from kvtier_engine.kv.host import HostTier
from kvtier_engine.kv.pages import PagePool

SAVES_IN_FLIGHT_MAX = 32
RETRY_S = 5.0  # after the disk has refused a page


@dataclass(frozen=True, slots=True)
class Link:
    """A page's place in its chain."""

    parent: bytes
    chain_pages: int  # of the chain that it was last used with


@dataclass(frozen=True, slots=True)
class Offload:
    """A page on its way from L1 to L2; both ends keep their bytes until it has arrived."""

    step: int
    page: int
    slot: int
    key: bytes
    link: Link


class Offloader:
    """Writes through: a page that fills goes to L2 with its step, and from L2 to L3 after it.

    Pages wait for the disk in L2, not in a queue of copies: one that L2 must evict first
    is not written (counted in `unsaved`). One that the disk refuses is offered again after
    a while, one that is not admitted when it is used again. Nothing here ever holds a step up.
    """

    def __init__(
        self, pool: PagePool, host: HostTier, disk: DiskTier | None, clock: Callable[[], float]
    ) -> None:
        self._pool = pool
        self._host = host
        self._disk = disk
        self._clock = clock
        self._copying: deque[Offload] = deque()
        self._copying_keys: set[bytes] = set()
        self._to_save: OrderedDict[bytes, Link] = OrderedDict()  # by key, oldest first
        self._saving: dict[bytes, Link] = {}
        self._not_admitted: OrderedDict[bytes, Link] = OrderedDict()  # at most one for each slot
        # A quarter of L2 at most: a disk that hangs must not pin it whole.
        self._saves_max = min(SAVES_IN_FLIGHT_MAX, max(1, host.slots // 4))
        self._paused_until = 0.0
        self.skipped = 0  # pages for which L2 had no slot
        self.unsaved = 0  # pages that left L2 before the disk could take them
        self.copied = 0
        self.saved = 0
        self.refused = 0  # times that the disk did not take a page
        self.not_admitted = 0  # times that the admission rule did not want one

    def start(self, step: int, page: int, key: bytes, link: Link) -> Offload | None:
        """The held L1 `page` is full after `step`: the copy to make with it, if there is one."""
        if key in self._copying_keys or self._host.find(key) is not None:
            return None
        slot = self._host.reserve(key)
        if slot is None:
            self.skipped += 1
            return None
        self._pool.hold([page])
        offload = Offload(step, page, slot, key, link)
        self._copying.append(offload)
        self._copying_keys.add(key)
        return offload

    def copied_up_to(self, step: int) -> None:
        """All ranks have made the copies of all steps up to this one."""
        while self._copying and self._copying[0].step <= step:
            offload = self._copying.popleft()
            self._copying_keys.discard(offload.key)
            self._pool.release([offload.page])
            if self._host.find(offload.key) is not None:  # the disk was quicker
                self._host.abandon(offload.slot)
                continue
            self._host.publish(offload.slot, offload.key)
            self._host.unpin(offload.slot)
            self.copied += 1
            if self._disk is not None:
                self._to_save[offload.key] = offload.link

    def used(self, keys: Sequence[bytes], chain_pages: int) -> None:
        """Pages were found in the cache, in a chain of so many: those that the disk did not want
        so far are offered once more, if L2 still has them."""
        for key in keys:
            link = self._not_admitted.pop(key, None)
            if link is not None and self._host.find(key) is not None:
                self._to_save[key] = Link(link.parent, chain_pages)

    def pump(self) -> None:
        """Hands pages to the disk, as many as it may have at a time, oldest first."""
        if self._disk is None or self._is_paused:
            return
        while self._to_save and len(self._saving) < self._saves_max:
            key, link = self._to_save.popitem(last=False)
            slot = self._host.find(key)
            if slot is None:
                self.unsaved += 1
                continue
            self._host.pin(slot)
            self._saving[key] = link
            pieces = self._host.pieces(slot)
            self._disk.save(key, link.parent, slot, pieces, chain_pages=link.chain_pages)

    def finish(self, saved: Saved) -> None:
        """A write has ended: its slot may be evicted again."""
        link = self._saving.pop(saved.key)
        self._host.unpin(saved.slot)
        match saved.outcome:
            case SaveOutcome.STORED:
                self.saved += 1
            case SaveOutcome.NOT_ADMITTED:
                self.not_admitted += 1
                self._not_admitted[saved.key] = link
                if len(self._not_admitted) > self._host.slots:
                    self._not_admitted.popitem(last=False)
            case SaveOutcome.REFUSED:
                self.refused += 1
                self._to_save[saved.key] = link
                self._paused_until = self._clock() + RETRY_S

    @property
    def copying(self) -> bool:
        """Copies to L2 are under way; their pages are held until they have ended."""
        return bool(self._copying)

    @property
    def in_flight(self) -> int:
        """Copies and writes that have not ended; without those that the disk has refused."""
        queued = 0 if self._is_paused else len(self._to_save)
        return len(self._copying) + queued + len(self._saving)

    @property
    def _is_paused(self) -> bool:
        return self._clock() < self._paused_until
