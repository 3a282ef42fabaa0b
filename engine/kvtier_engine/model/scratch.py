"""Scratch: memory for one operation's results, kept from call to call."""

from __future__ import annotations

import torch

# Grown by at least this much, so that a slowly growing batch does not allocate every step.
_GROWTH = 1.5


class Scratch:
    """Hands out matrices in the same memory: each overwrites the one before.

    Memory that the kernel has mapped once stays mapped, and the views of a step's few
    shapes are made once a step rather than once a layer.
    """

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._views: dict[tuple[int, torch.dtype], torch.Tensor] = {}
        self._rows = 0

    def take(self, rows: int, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, int]:
        """A contiguous [rows, width] of `dtype` with any content, and its address."""
        if rows != self._rows:
            self._views.clear()
            self._rows = rows
        view = self._views.get((width, dtype))
        if view is None:
            size = rows * width * dtype.itemsize
            if size > self._memory.numel():
                self._views.clear()
                self._memory = torch.empty(int(size * _GROWTH), dtype=torch.uint8)
            view = self._memory[:size].view(dtype).view(rows, width)
            self._views[width, dtype] = view
        return view, self._memory.data_ptr()
