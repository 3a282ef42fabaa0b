"""Tiers made smaller or larger, detached and attached, while requests are served."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from kvtier_engine.config import EngineConfig
from kvtier_engine.core.background import Background
from kvtier_engine.core.disk import DiskOpener, DiskUnavailable
from kvtier_engine.core.engine import Engine
from kvtier_engine.messages import Attach, Detach, Resize
from kvtier_engine.runner.step import TierSizes
from kvtier_store import StoreError

if TYPE_CHECKING:
    from kvtier_engine.core.host_memory import HostMemory

log = logging.getLogger(__name__)

PAGES_PER_ROUND = 64  # moved or evicted between two steps
PATIENCE_S = 5.0  # for the disk to take what a smaller L2 evicts

TierChange = Resize | Detach | Attach
Values = dict[str, Any]
# One change, a bit of it between every two steps: yields whether it got on.
Work = Generator[bool, None, Values]


class ChangeRefused(Exception):
    """Why a change cannot be made here and now: a sentence for the operator."""


class TierChanges:
    """One change at a time. What requests hold of a tier that gets smaller stays theirs until
    they let go of it; a change may wait for that, and serving does not wait for it."""

    def __init__(
        self,
        engine: Engine,
        memory: HostMemory | None,
        opener: DiskOpener,
        config: EngineConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._manager = engine.manager
        self._memory = memory
        self._opener = opener
        self._config = config
        self._clock = clock
        self._work: Work | None = None
        self.in_background = Background[Any]  # for what may hang
        self._l2_slots = self._manager.host.slots if self._manager.host is not None else 0
        self.under_way = ""  # in words; empty: none

    def begin(self, change: TierChange) -> None:
        """`go_on` makes it. Raises ChangeRefused."""
        if self._work is not None:
            raise ChangeRefused(f"{self.under_way} is under way: wait for its end")
        self._work = self._start(change)
        self.under_way = f"{type(change).__name__.lower()} {change.tier}"
        log.info("%s: begun", self.under_way)

    def go_on(self) -> tuple[bool, Values | None]:
        """(whether the change has got on, what came of it if it has ended). ChangeRefused if it
        came to nothing."""
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
        self._work, self.under_way = None, ""

    def _start(self, change: TierChange) -> Work:
        match change:
            case Resize("l1", size):
                return self._resize_l1(size)
            case Resize("l2", size):
                return self._resize_l2(self._slots_for(size))
            case Resize("l3", size):
                return self._resize_l3(size)
            case Detach("l2"):
                return self._detach_l2()
            case Attach("l2", size):
                return self._attach_l2(size)
            case Detach("l3"):
                return self._detach_l3()
            case Attach("l3", size):
                return self._attach_l3(size)
        raise AssertionError(f"a change that is not known: {change}")

    # L1.

    def _resize_l1(self, size_bytes: int) -> Work:
        pool, cache = self._manager.pool, self._config.cache
        pages = size_bytes // cache.page_bytes
        least = -(-self._config.scheduler.max_context_tokens // cache.page_tokens)
        if pages < least:
            raise ChangeRefused(
                f"l1 needs {least} pages ({least * cache.page_bytes} bytes) for one request of "
                f"{self._config.scheduler.max_context_tokens} tokens, and {size_bytes} bytes hold "
                f"{pages}"
            )
        self._check_capacity("l1", pages, pool.capacity)
        return self._resize_pool(pages)

    def _resize_pool(self, pages: int) -> Work:
        pool = self._manager.pool
        pool.resize(pages)
        while pool.outside:
            yield False
        yield from self._tell_ranks()
        return self._now("l1", pages)

    # L2.

    def _slots_for(self, size_bytes: int) -> int:
        slots = size_bytes // self._config.cache.page_bytes
        if slots == 0:
            raise ChangeRefused(
                f"{size_bytes} bytes hold no page of {self._config.cache.page_bytes}; to use no "
                "l2, detach it"
            )
        return slots

    def _resize_l2(self, slots: int) -> Work:
        host = self._manager.host
        if host is None or self._memory is None:
            raise ChangeRefused("there is no l2: set `tiers.l2.size` and launch again")
        if slots and not host.slots:
            raise ChangeRefused("l2 is detached: attach it")
        return self._change_l2(slots)

    def _change_l2(self, slots: int) -> Work:
        host, pins = self._manager.host, self._manager.hints.pins
        assert host is not None and self._memory is not None
        self._check_capacity("l2", slots, host.capacity)
        if len(pins) > slots // 4:
            raise ChangeRefused(
                f"{len(pins)} pages are pinned, and at most a quarter of l2 may be: unpin some "
                "first, or choose a larger size"
            )
        if slots > host.slots and (reason := self._memory.why_not(slots)) is not None:
            raise ChangeRefused(reason)
        if slots:
            self._l2_slots = slots
        return self._grow_l2(slots) if slots > host.slots else self._shrink_l2(slots)

    def _grow_l2(self, slots: int) -> Work:
        host, memory = self._manager.host, self._memory
        assert host is not None and memory is not None
        memory.arena.prefault(threads=self._config.parallel.threads_per_rank, slots=slots)
        yield from self._tell_ranks(l2_slots=slots)
        host.resize(slots)
        return self._now("l2", slots)

    def _shrink_l2(self, slots: int) -> Work:
        host, memory = self._manager.host, self._memory
        assert host is not None and memory is not None
        host.resize(slots)
        before, patience = (host.over, host.outside), 0.0
        while host.outside:
            host.shrink(PAGES_PER_ROUND, unsaved=self._clock() > patience > 0)
            left = (host.over, host.outside)
            if left != before or not patience:
                patience = self._clock() + PATIENCE_S
            yield left != before
            before = left
        yield from self._tell_ranks()
        memory.arena.release(slots)
        return self._now("l2", slots)

    def _detach_l2(self) -> Work:
        if self._manager.disk is not None or self._manager.l3.leaving is not None:
            raise ChangeRefused("pages reach the disk through l2: detach l3 first")
        if self._manager.host is not None and not self._manager.host.slots:
            raise ChangeRefused("l2 is detached already")
        return self._resize_l2(0)

    def _attach_l2(self, size_bytes: int | None) -> Work:
        host = self._manager.host
        if host is None:
            raise ChangeRefused("there is no l2: set `tiers.l2.size` and launch again")
        if host.slots:
            raise ChangeRefused("l2 is attached already; `resize` changes its size")
        return self._change_l2(
            self._l2_slots if size_bytes is None else self._slots_for(size_bytes)
        )

    # L3.

    def _resize_l3(self, size_bytes: int) -> Work:
        if self._manager.disk is None:
            raise ChangeRefused("l3 is detached: attach it, with a size if that is to be another")
        return self._reopen_l3(size_bytes)

    def _reopen_l3(self, size_bytes: int) -> Work:
        self._choose_size(size_bytes)
        yield from self._close_l3()
        return (yield from self._open_l3())

    def _detach_l3(self) -> Work:
        if self._manager.disk is None:
            raise ChangeRefused("l3 is detached already")
        return self._close_l3()

    def _attach_l3(self, size_bytes: int | None) -> Work:
        host = self._manager.host
        if self._manager.disk is not None:
            raise ChangeRefused("l3 is attached already; `resize` changes its size")
        if not self._opener.directories:
            raise ChangeRefused("there is no l3: set `tiers.l3.directories` and launch again")
        if host is None or not host.slots:
            raise ChangeRefused("pages reach the disk through l2, which is not there: attach l2")
        if size_bytes is not None:
            self._choose_size(size_bytes)
        return self._open_l3()

    def _choose_size(self, size_bytes: int) -> None:
        try:
            self._opener.resize(size_bytes)
        except DiskUnavailable as error:
            raise ChangeRefused(str(error)) from error

    def _close_l3(self) -> Work:
        disk = self._manager.disk
        assert disk is not None
        self._manager.l3.detach()
        while self._manager.l3.leaving is not None:
            yield False
        try:
            yield from self._wait_for(disk.close)
        except StoreError as error:
            raise ChangeRefused(f"l3 is out of use, and has not been closed: {error}") from error
        return self._now("l3", 0)

    def _open_l3(self) -> Work:
        try:
            disk = yield from self._wait_for(self._opener.open)
        except DiskUnavailable as error:
            raise ChangeRefused(f"{error}; l3 is out of use until it can be attached") from error
        self._manager.l3.attach(disk.tier, disk.rules)
        stats = disk.tier.stats()
        return {"tier": "l3", "pages": stats.capacity_pages, "bytes": stats.capacity_bytes}

    # Parts.

    def _wait_for(self, work: Callable[[], Any]) -> Generator[bool, None, Any]:
        background = self.in_background(work)
        while not background.is_done:
            yield False
        return background.result()

    def _tell_ranks(self, l2_slots: int | None = None) -> Generator[bool, None, None]:
        """Ends when every rank knows the sizes."""
        host, scheduler = self._manager.host, self._engine.scheduler
        if l2_slots is None:
            l2_slots = host.slots if host is not None else 0
        scheduler.tell_sizes(TierSizes(self._manager.pool.pages, l2_slots))
        yield True
        while not 0 < scheduler.sizes_step <= self._engine.ranks.offloads_done():
            yield False

    def _check_capacity(self, tier: str, pages: int, capacity: int) -> None:
        if pages > capacity:
            size = capacity * self._config.cache.page_bytes
            raise ChangeRefused(
                f"{tier} was given memory for {capacity} pages ({size} bytes) when the engine "
                f"started: for more, set `tiers.{tier}.size` and launch again"
            )

    def _now(self, tier: str, pages: int) -> Values:
        return {"tier": tier, "pages": pages, "bytes": pages * self._config.cache.page_bytes}
