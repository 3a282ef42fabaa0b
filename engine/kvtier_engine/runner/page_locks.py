"""Page-locks L2 for a device's copy engine, piece by piece, while the engine serves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

logger = logging.getLogger(__name__)

# A driver may refuse one huge registration (512 GiB fail in practice), and what was registered
# before a refusal still copies at full speed.
PIECE_BYTES = 1 << 30


class Cudart(Protocol):
    """The calls that are needed of torch.cuda.cudart(); each returns a CUDA error, 0: none."""

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int: ...
    def cudaHostUnregister(self, address: int) -> int: ...


@dataclass(frozen=True)
class SlotMemory:
    """One rank's part of all slots, one behind the other."""

    address: int
    slots: int
    slot_bytes: int


class PageLocks:
    """Which slots the device copies at full speed: a first run of them, that grows in a thread.

    The engine does not wait for it: to register memory populates it, and that takes a minute for
    some hundred GiB. Copies of slots not yet registered are right, only slower, and hold up the
    caller. A piece has whole slots, because a copy may not lie in registered memory by half.
    """

    def __init__(self, cudart: Cudart, memory: SlotMemory, use_device: Callable[[], None]) -> None:
        """`use_device` makes the device that of the calling thread."""
        self._cudart = cudart
        self._memory = memory
        self._piece_slots = max(1, PIECE_BYTES // memory.slot_bytes)
        self._changed = threading.Condition()  # guards all that follows
        self._pieces: list[range] = []  # of slots, registered, one after the other from 0 on
        self._wanted = 0
        self._registering: range | None = None  # a piece under way
        self._is_refused = False
        self._is_closed = False
        self._thread = threading.Thread(
            target=self._run, args=(use_device,), name="page-locks", daemon=True
        )
        self._thread.start()

    @property
    def locked(self) -> int:
        """Slots that are registered."""
        with self._changed:
            return self._locked()

    def cover(self, slots: int) -> None:
        """Registers the first `slots` slots, in the background, and no others: those behind are
        unregistered when this returns, and their memory may go. Waits for a piece that is being
        registered only if it reaches behind them. The caller has no copy of them under way. Raises
        RuntimeError if the driver does not let go of them."""
        with self._changed:
            self._wanted = min(slots, self._memory.slots)
            self._is_refused = False
            self._changed.wait_for(lambda: not self._registers_behind(self._wanted))
            self._unregister_behind(self._wanted)
            self._changed.notify_all()

    def close(self) -> None:
        """Stops, within the time that one piece takes, and unregisters everything."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()
        with self._changed:
            self._unregister_behind(0)

    def _registers_behind(self, slots: int) -> bool:
        return self._registering is not None and self._registering.stop > slots

    def _locked(self) -> int:
        return self._pieces[-1].stop if self._pieces else 0

    def _run(self, use_device: Callable[[], None]) -> None:
        use_device()
        while (piece := self._next()) is not None:
            size = len(piece) * self._memory.slot_bytes
            status = -1
            try:
                status = int(self._cudart.cudaHostRegister(self._address(piece), size, 0))
            except RuntimeError:
                logger.exception("page-locking L2 failed")
            with self._changed:
                self._registering = None
                if status == 0:
                    self._pieces.append(piece)
                else:
                    self._refuse(status)
                self._changed.notify_all()

    def _next(self) -> range | None:
        """Waits for the next piece to register; None: closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closed or (self._locked() < self._wanted and not self._is_refused)
            )
            if self._is_closed:
                return None
            begin = self._locked()
            self._registering = range(begin, min(begin + self._piece_slots, self._wanted))
            return self._registering

    def _refuse(self, status: int) -> None:
        self._is_refused = True
        logger.warning(
            "the driver page-locked only %d of %d bytes of L2 (CUDA error %d): copies to and from "
            "the rest are slower; raise the memlock limit (ulimit -l), or make `tiers.l2.size` "
            "smaller",
            self._locked() * self._memory.slot_bytes,
            self._wanted * self._memory.slot_bytes,
            status,
        )

    def _unregister_behind(self, slots: int) -> None:
        while self._pieces and self._pieces[-1].stop > slots:
            status = int(self._cudart.cudaHostUnregister(self._address(self._pieces[-1])))
            if status != 0:
                # The device would go on with the old memory, whatever the arena has there.
                raise RuntimeError(f"the driver does not unlock memory of L2 (CUDA error {status})")
            self._pieces.pop()

    def _address(self, piece: range) -> int:
        return self._memory.address + piece.start * self._memory.slot_bytes
