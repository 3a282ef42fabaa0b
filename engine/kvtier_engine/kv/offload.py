"""L1 -> L2: every full page is copied down, in the background of the steps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from kvtier_engine.kv.host import DiskCopy, HostTier, Link
from kvtier_engine.kv.pages import PagePool
from kvtier_engine.kv.save import Saver


@dataclass(frozen=True, slots=True)
class Offload:
    """A page on its way from L1 to L2; both ends keep their bytes until it has arrived."""

    step: int
    page: int
    slot: int
    key: bytes
    link: Link


class Offloader:
    """Copies a page that fills to L2 with its step; what becomes of it there is the saver's
    matter. Nothing here ever holds a step up."""

    def __init__(self, pool: PagePool, host: HostTier) -> None:
        self._pool = pool
        self._host = host
        self.saver: Saver | None = None  # as long as there is a disk
        self._copying: deque[Offload] = deque()
        self._copying_keys: set[bytes] = set()
        self.skipped = 0  # pages for which L2 had no slot
        self.copied = 0

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
            copy = DiskCopy.NONE if self.saver is not None else DiskCopy.UNWANTED
            self._host.publish(offload.slot, offload.key, offload.link, copy)
            self._host.unpin(offload.slot)
            self.copied += 1
            if self.saver is not None:
                self.saver.arrived(offload.key)

    def is_moving(self, key: bytes) -> bool:
        """True while the page is copied to L2."""
        return key in self._copying_keys

    @property
    def copying(self) -> bool:
        """Copies to L2 are under way; their pages are held until they have ended."""
        return bool(self._copying)

    @property
    def in_flight(self) -> int:
        """Copies that have not ended; their pages are held in L1 until they have."""
        return len(self._copying)
