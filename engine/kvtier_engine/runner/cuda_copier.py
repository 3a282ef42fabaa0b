"""Copies pages between CUDA memory and the L2 arena on a stream of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch

from kvtier_engine.runner.page_locks import PageLocks, SlotMemory
from kvtier_engine.runner.step import Copy


class CudaCopier:
    """L1 in device memory. Restores and offloads share one side stream, so a restore into a
    page comes after the offload out of it, and neither holds up the computing stream more
    than the order of the data demands. L2 is page-locked in the background (PageLocks): the engine
    serves meanwhile, with slower copies of slots whose turn has not come.
    """

    def __init__(
        self, pages: torch.Tensor, slots: torch.Tensor | None, slots_in_use: int | None = None
    ) -> None:
        """`pages` [pages, bytes] uint8 is L1, `slots` [slots, bytes] uint8 L2 (None: no L2), of
        which the first `slots_in_use` (None: all) have memory, or will."""
        self.pages = pages
        self.slots = slots
        self.stream = torch.cuda.Stream(pages.device)  # type: ignore[no-untyped-call]
        self.pending: deque[tuple[int, torch.cuda.Event]] = deque()
        self.restored: torch.cuda.Event | None = None
        self.last_step = 0
        self.locks = None if slots is None else _locks(slots, pages.device)
        if slots is not None:
            self.resize(slots.shape[0] if slots_in_use is None else slots_in_use)

    def restore(self, copies: Sequence[Copy]) -> None:
        if not copies:
            return
        assert self.slots is not None, "a restore without an L2"
        computing = torch.cuda.current_stream(self.pages.device)
        # The page may still be read by what was computed for its former owner.
        self.stream.wait_stream(computing)
        with torch.cuda.stream(self.stream):
            for copy in copies:
                self.pages[copy.page].copy_(self.slots[copy.slot], non_blocking=True)
        computing.wait_stream(self.stream)
        self.restored = self._mark()

    def offload(self, step: int, copies: Sequence[Copy]) -> None:
        if copies:
            assert self.slots is not None, "an offload without an L2"
            self.stream.wait_stream(torch.cuda.current_stream(self.pages.device))
            with torch.cuda.stream(self.stream):
                for copy in copies:
                    self.slots[copy.slot].copy_(self.pages[copy.page], non_blocking=True)
        self.pending.append((step, self._mark()))
        if self.restored is not None:
            # The caller may reuse the slots. By now the copies are over or nearly so: the whole
            # step was put on the device behind them.
            self.restored.synchronize()
            self.restored = None

    def offloads_done(self) -> int:
        while self.pending and self.pending[0][1].query():  # type: ignore[no-untyped-call]
            self.last_step = self.pending.popleft()[0]
        return self.last_step

    def _mark(self) -> torch.cuda.Event:
        """An event that comes after everything asked of the side stream so far."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self.stream)
        return event

    def wait(self) -> None:
        self.stream.synchronize()

    def resize(self, slots: int) -> None:
        """The first `slots` slots are in use from now on, and page-locked in time. When this
        returns, the device has let go of the others, and their memory may be released. Raises
        RuntimeError if the driver does not do so."""
        self.wait()
        if self.locks is not None:
            self.locks.cover(slots)

    def close(self) -> None:
        self.wait()
        if self.locks is not None:
            self.locks.close()


def _locks(slots: torch.Tensor, device: torch.device) -> PageLocks:
    memory = SlotMemory(slots.data_ptr(), slots.shape[0], slots.stride(0))
    cudart = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    return PageLocks(cudart, memory, lambda: torch.cuda.set_device(device))
