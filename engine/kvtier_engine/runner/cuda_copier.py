"""Copies pages between CUDA memory and the L2 arena on a stream of their own."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import torch

from kvtier_engine.runner.step import Copy

logger = logging.getLogger(__name__)

# Registered in pieces: a driver may refuse one huge registration, and what was registered
# before the refusal still copies at full speed.
_REGISTER_BYTES = 1 << 30


class CudaCopier:
    """L1 in device memory. Restores and offloads share one side stream, so a restore into a
    page comes after the offload out of it, and neither holds up the computing stream more
    than the order of the data demands.
    """

    def __init__(self, pages: torch.Tensor, slots: torch.Tensor | None) -> None:
        """`pages` [pages, bytes] uint8 is L1, `slots` [slots, bytes] uint8 L2 (None: no L2)."""
        self.pages = pages
        self.slots = slots
        self.stream = torch.cuda.Stream(pages.device)  # type: ignore[no-untyped-call]
        self.pending: deque[tuple[int, torch.cuda.Event]] = deque()
        self.restored: torch.cuda.Event | None = None
        self.last_step = 0
        self.is_pinned = slots is not None and _pin(slots)

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


def _pin(slots: torch.Tensor) -> bool:
    """Page-locks the arena for the device's copy engine; without it copies are slower and
    hold up the caller, never wrong. Stops at the first refusal (a memlock limit, say)."""
    cudart = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    begin, end = slots.data_ptr(), slots.data_ptr() + slots.untyped_storage().nbytes()
    for address in range(begin, end, _REGISTER_BYTES):
        size = min(_REGISTER_BYTES, end - address)
        status = int(cudart.cudaHostRegister(address, size, 0))
        if status != 0:
            # The refusal would be raised by the next kernel that torch launches.
            with suppress(RuntimeError):
                torch.ones(1, device="cuda")
            logger.warning(
                "the driver page-locked only %d of %d bytes of the L2 arena (CUDA error %d): "
                "copies to and from it will be slower; raise the memlock limit (ulimit -l)",
                address - begin,
                end - begin,
                status,
            )
            return False
    return True
