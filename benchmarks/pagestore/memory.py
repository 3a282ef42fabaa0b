"""The pages that the benchmarks move: touched once and used again, as an engine's arena is.

The first touch of fresh guest memory may cost seconds a GiB, so none is touched in a turn.
"""

from __future__ import annotations

import ctypes
import os
import random

from kvtier_store import KEY_BYTES, Arena, Backing
from pagestore import huge


class Pages:
    """`count` pages of noise. The first and last bytes of a page say whose it is."""

    def __init__(self, page_bytes: int, count: int, *, on_huge: bool = True) -> None:
        self.count = count
        self._pages = huge.buffers(page_bytes, count) if on_huge else _arena(page_bytes, count)
        noise = random.Random(page_bytes).randbytes(page_bytes)
        for page in self._pages:
            page[:] = noise
        addresses = [ctypes.addressof(ctypes.c_char.from_buffer(page)) for page in self._pages]
        self.pieces = [[(address, page_bytes)] for address in addresses]

    def of(self, slot: int) -> memoryview:
        return self._pages[slot]

    def stamp(self, slot: int, key: bytes) -> None:
        """Makes the page in `slot` the one that belongs to `key`."""
        page = self._pages[slot]
        page[:KEY_BYTES] = key
        page[-KEY_BYTES:] = key

    def holds(self, slot: int, key: bytes) -> bool:
        page = self._pages[slot]
        return page[:KEY_BYTES] == key == page[-KEY_BYTES:]

    def wipe(self, slot: int) -> None:
        self.stamp(slot, bytes(KEY_BYTES))


def _arena(page_bytes: int, count: int) -> list[memoryview]:
    """The memory that an engine gets, as large or small as its pages are on this host."""
    fd = os.memfd_create("benchmark")
    arena = Arena.open(
        fd,
        slots=count,
        parts=1,
        part_bytes=page_bytes,
        namespace=b"benchmark",
        backing=Backing.TRANSPARENT,
    )
    os.close(fd)
    view, stride = arena.part_view(0), arena.part_stride
    return [view[i * stride : i * stride + page_bytes] for i in range(count)]
