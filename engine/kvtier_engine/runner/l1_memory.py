"""The memory of L1 on this rank."""

from __future__ import annotations

import math
import mmap

import torch


class L1Memory:
    """One zeroed tensor, `storage`. In host memory, its last pages can go back to the system."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        """`shape` begins with the number of pages."""
        self._memory: mmap.mmap | None = None
        if device.type == "cpu":
            self._memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
            self.storage = torch.frombuffer(self._memory, dtype=dtype).view(shape)
        else:
            self.storage = torch.zeros(shape, dtype=dtype, device=device)

    def keep(self, pages: int) -> None:
        """Pages from this number on hold nothing: their memory goes back, and is there again, as
        zeroes, when it is touched. A GPU's stays: it is one allocation."""
        if self._memory is None or pages >= len(self.storage):
            return
        page_bytes = self.storage[0].nbytes
        begin = -(-pages * page_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        if begin < len(self._memory):
            self._memory.madvise(mmap.MADV_DONTNEED, begin, len(self._memory) - begin)
