"""The pages that the benchmarks move: an arena like the engine's, touched once and used again.

The first touch of fresh guest memory may cost seconds a GiB, so none is touched in a turn.
"""

from __future__ import annotations

import os
import random

from kvtier_store import KEY_BYTES, Arena, Backing


class Pages:
    """`count` pages of noise in an arena. The first bytes of a page say whose it is."""

    def __init__(self, page_bytes: int, count: int) -> None:
        self.page_bytes, self.count = page_bytes, count
        fd = os.memfd_create("benchmark")
        self.arena = Arena.open(
            fd,
            slots=count,
            parts=1,
            part_bytes=page_bytes,
            namespace=b"benchmark",
            backing=Backing.TRANSPARENT,
        )
        os.close(fd)
        self.stride = self.arena.part_stride
        self.view = self.arena.part_view(0)
        noise = random.Random(page_bytes).randbytes(page_bytes)
        for slot in range(count):
            self.of(slot)[:] = noise
        self.pieces = [self.arena.pieces(slot) for slot in range(count)]

    def of(self, slot: int) -> memoryview:
        return self.view[slot * self.stride : slot * self.stride + self.page_bytes]

    def stamp(self, slot: int, key: bytes) -> None:
        """Makes the page in `slot` the one that belongs to `key`."""
        at = slot * self.stride
        self.view[at : at + KEY_BYTES] = key
        self.view[at + self.page_bytes - KEY_BYTES : at + self.page_bytes] = key

    def holds(self, slot: int, key: bytes) -> bool:
        at = slot * self.stride
        end = at + self.page_bytes
        return self.view[at : at + KEY_BYTES] == key == self.view[end - KEY_BYTES : end]

    def wipe(self, slot: int) -> None:
        self.stamp(slot, bytes(KEY_BYTES))

    def close(self) -> None:
        del self.view
        self.arena.close()
