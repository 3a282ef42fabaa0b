"""Copies pages between L1 in host memory and the L2 arena, by the kernels' threads."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kvtier_engine.runner.step import Copy

try:
    from kvtier_engine import _kernels
except ImportError:  # built without them: torch copies
    _kernels = None  # type: ignore[assignment]


class HostCopier:
    """L1 in host memory: a copy is complete when the call returns."""

    def __init__(self, pages: torch.Tensor, slots: torch.Tensor | None, threads: int) -> None:
        """`pages` [pages, bytes] uint8 is L1, `slots` [slots, bytes] uint8 L2 (None: no L2)."""
        if _kernels is not None and _kernels.num_threads() != threads:
            _kernels.set_num_threads(threads)
        self.pages = pages
        self.slots = slots
        self.last_step = 0

    def restore(self, copies: Sequence[Copy]) -> None:
        if copies:
            assert self.slots is not None, "a restore without an L2"
            _copy(self.pages, self.slots, [(copy.page, copy.slot) for copy in copies])

    def offload(self, step: int, copies: Sequence[Copy]) -> None:
        if copies:
            assert self.slots is not None, "an offload without an L2"
            _copy(self.slots, self.pages, [(copy.slot, copy.page) for copy in copies])
        self.last_step = step

    def resize(self, slots: int) -> None:
        pass

    def offloads_done(self) -> int:
        return self.last_step

    def wait(self) -> None:
        pass

    def close(self) -> None:
        pass


def _copy(to: torch.Tensor, source: torch.Tensor, pairs: list[tuple[int, int]]) -> None:
    """Rows, (row of `to`, row of `source`) each."""
    if _kernels is None:
        for target, origin in pairs:
            to[target].copy_(source[origin])
        return
    _kernels.copy_pages(
        to.data_ptr(), to.stride(0), source.data_ptr(), source.stride(0), to.shape[1], pairs
    )
