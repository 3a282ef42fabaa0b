"""Tiers made smaller or larger, detached and attached, while requests are served."""

from __future__ import annotations

import logging

from kvtier_engine.core.change import ChangeRefused, Values, Work
from kvtier_engine.core.disk_changes import DiskChanges
from kvtier_engine.core.memory_changes import MemoryChanges
from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.messages import Attach, Detach, Resize

log = logging.getLogger(__name__)

TierChange = Resize | Detach | Attach


class TierChanges:
    """One change at a time, a bit of it between every two steps. What requests hold of a tier
    that gets smaller stays theirs until they let go of it, and the change waits for that."""

    def __init__(self, memory: MemoryChanges, disk: DiskChanges) -> None:
        self._memory = memory
        self._disk = disk
        self._change: TierChange | None = None
        self._work: Work | None = None

    @property
    def under_way(self) -> str:
        """In words; empty: nothing is."""
        change = self._change
        return f"{type(change).__name__.lower()} {change.tier}" if change is not None else ""

    @property
    def is_of_disk(self) -> bool:
        """What is under way opens or closes L3."""
        return self._change is not None and self._change.tier == "l3"

    @property
    def unclosed(self) -> list[DiskTier]:
        """Disks that are used no more and have not been closed."""
        return self._disk.unclosed

    @property
    def has_detached_disk(self) -> bool:
        return self._disk.is_detached

    def begin(self, change: TierChange) -> None:
        """`go_on` makes it. It takes the place of one under way that waits for requests to let go
        of the same tier. Raises ChangeRefused."""
        before = self._change
        if before is not None and not (change.tier == before.tier and self._memory.is_waiting):
            raise ChangeRefused(f"{self.under_way} is under way: wait for its end")
        work = self._start(change)
        if self._work is not None:
            self._work.close()
            self._memory.is_waiting = False
        self._work, self._change = work, change
        log.info("%s: begun", self.under_way)

    def go_on(self) -> tuple[bool, Values | None]:
        """(whether the change has got on, what came of it if it has ended). ChangeRefused if it
        came to nothing."""
        self._disk.tend()
        if self._work is None:
            return False, None
        try:
            return next(self._work), None
        except StopIteration as end:
            log.info("%s: done, %s", self.under_way, end.value)
            self._end()
            return True, end.value
        except ChangeRefused as error:
            log.warning("%s: %s", self.under_way, error)
            self._end()
            raise
        except Exception:
            self._end()
            raise

    def _end(self) -> None:
        self._work = self._change = None
        self._memory.is_waiting = False

    def _start(self, change: TierChange) -> Work:
        match change:
            case Resize("l1", size):
                return self._memory.resize_l1(size)
            case Resize("l2", size):
                return self._memory.resize_l2(size)
            case Resize("l3", size):
                return self._disk.resize(size)
            case Detach("l2"):
                return self._memory.detach_l2()
            case Attach("l2", size):
                return self._memory.attach_l2(size)
            case Detach("l3"):
                return self._disk.detach()
            case Attach("l3", size):
                return self._disk.attach(size)
        raise AssertionError(f"a change that is not known: {change}")
