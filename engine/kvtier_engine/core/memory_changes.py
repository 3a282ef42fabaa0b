"""L1 and L2 made smaller and larger, L2 detached and attached."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kvtier_engine.config import EngineConfig
from kvtier_engine.core.background import Background
from kvtier_engine.core.change import ChangeRefused, Part, RunInBackground, Work, now, wait_for
from kvtier_engine.core.engine import Engine
from kvtier_engine.core.memory_room import memory_rooms
from kvtier_engine.kv.host import HostTier
from kvtier_engine.runner.step import TierSizes

if TYPE_CHECKING:
    from kvtier_engine.core.host_memory import HostMemory

ROUND_BYTES = 16 << 20  # moved or evicted between two steps
PATIENCE_S = 5.0  # for the disk to take what a smaller L2 evicts
NO_L2 = "there is no l2: set `tiers.l2.size` and launch again"


class MemoryChanges:
    """Memory goes back to the system when nothing is in it any more and every rank knows."""

    def __init__(
        self,
        engine: Engine,
        memory: HostMemory | None,
        config: EngineConfig,
        clock: Callable[[], float] = time.monotonic,
        in_background: RunInBackground = Background,
    ) -> None:
        self._engine = engine
        self._pool = engine.manager.pool
        self._host = engine.manager.host
        self._memory = memory
        self._config = config
        self._clock = clock
        self._in_background = in_background
        self._l2_slots = self._host.slots if self._host is not None else 0  # when it was last there
        self.is_waiting = False  # for requests to let go: another size may be chosen meanwhile

    # L1.

    def resize_l1(self, size_bytes: int) -> Work:
        cache, tokens = self._config.cache, self._config.scheduler.max_context_tokens
        pages, least = size_bytes // cache.page_bytes, -(-tokens // cache.page_tokens)
        if pages < least:
            raise ChangeRefused(
                f"l1 needs {least} pages ({least * cache.page_bytes} bytes) for one request of "
                f"{tokens} tokens, and {size_bytes} bytes hold {pages}"
            )
        if pages > self._pool.capacity:
            raise _too_large("l1", self._pool.capacity, self._pool.capacity * cache.page_bytes)
        if self._config.device == "cpu":
            _check_room((pages - self._pool.pages) * cache.page_bytes)
        return self._resize_l1(pages)

    def _resize_l1(self, pages: int) -> Work:
        self._pool.resize(pages)
        self.is_waiting = True
        while self._pool.outside:
            yield False
        self.is_waiting = False
        yield from self._tell_ranks(self._host.slots if self._host is not None else 0)
        return now("l1", pages, pages * self._config.cache.page_bytes)

    # L2.

    def resize_l2(self, size_bytes: int) -> Work:
        host, memory = self._l2()
        slots = self._slots_in(size_bytes, host, memory)
        if not host.slots:
            raise ChangeRefused("l2 is detached: attach it")
        return self._change_l2(slots)

    def detach_l2(self) -> Work:
        host, _ = self._l2()
        if self._engine.manager.disk is not None or self._engine.manager.l3.leaving is not None:
            raise ChangeRefused("pages reach the disk through l2: detach l3 first")
        if not host.slots:
            raise ChangeRefused("l2 is detached already")
        return self._change_l2(0)

    def attach_l2(self, size_bytes: int | None) -> Work:
        host, memory = self._l2()
        if host.slots:
            raise ChangeRefused("l2 is attached already; `resize` changes its size")
        if size_bytes is None:
            return self._change_l2(self._l2_slots)
        return self._change_l2(self._slots_in(size_bytes, host, memory))

    def _l2(self) -> tuple[HostTier, HostMemory]:
        if self._host is None or self._memory is None:
            raise ChangeRefused(NO_L2)
        return self._host, self._memory

    def _slots_in(self, size_bytes: int, host: HostTier, memory: HostMemory) -> int:
        """As the plan counts them: with the table, and all parts of whole blocks."""
        slots = memory.demand.slots_in(size_bytes)
        if slots == 0:
            raise ChangeRefused(
                f"{size_bytes} bytes hold no page of {self._config.cache.page_bytes}; to use no "
                "l2, detach it"
            )
        largest = memory.demand.bytes(host.capacity)
        if slots > host.capacity and size_bytes > largest:
            raise _too_large("l2", host.capacity, largest)
        return min(slots, host.capacity)

    def _change_l2(self, slots: int) -> Work:
        host, memory = self._l2()
        self._check_pins(slots)
        if slots > host.slots and (reason := memory.why_not(slots)) is not None:
            raise ChangeRefused(reason)
        # What has taken the place of a smaller size still has slots to empty.
        is_larger = slots > host.slots and not host.outside
        return self._grow_l2(slots) if is_larger else self._shrink_l2(slots)

    def _check_pins(self, slots: int) -> None:
        pins = len(self._engine.manager.hints.pins)
        if pins > slots // 4:
            raise ChangeRefused(
                f"{pins} pages are pinned, and at most a quarter of l2 may be: unpin some first, "
                "or choose a larger size"
            )

    def _grow_l2(self, slots: int) -> Work:
        host, memory = self._l2()
        memory.arena.prefault(threads=self._config.parallel.threads_per_rank, slots=slots)
        yield from self._tell_ranks(slots)
        host.resize(slots)
        self._l2_slots = slots
        return now("l2", slots, memory.demand.bytes(slots))

    def _shrink_l2(self, slots: int) -> Work:
        host, memory = self._l2()
        self._check_pins(slots)  # there may be more than when this was asked for
        host.resize(slots)
        self._l2_slots = slots or self._l2_slots
        self.is_waiting = True
        yield from self._empty(host)
        self.is_waiting = False
        yield from self._tell_ranks(slots)
        arena, threads = memory.arena, self._config.parallel.threads_per_rank
        yield from wait_for(self._in_background(lambda: arena.release(slots)))
        # What could not be populated is tried again: there may be room for it now.
        arena.prefault(threads=threads, slots=slots)
        return now("l2", slots, memory.demand.bytes(slots) if slots else 0)

    def _empty(self, host: HostTier) -> Part[None]:
        """Ends when no slot above the size is in use any more."""
        pages_max = max(1, ROUND_BYTES // self._config.cache.page_bytes)
        saved, deadline = self._saved, self._clock() + PATIENCE_S
        while host.outside:
            before = (host.over, host.outside)
            host.shrink(pages_max, unsaved=self._clock() > deadline)
            if self._saved != saved:
                saved, deadline = self._saved, self._clock() + PATIENCE_S
            yield before != (host.over, host.outside)

    @property
    def _saved(self) -> int:
        """Pages that the disk has taken."""
        saver = self._engine.manager.saver
        return saver.saved if saver is not None else 0

    def _tell_ranks(self, l2_slots: int) -> Part[None]:
        """Ends when every rank knows the sizes."""
        scheduler, ranks = self._engine.scheduler, self._engine.ranks
        scheduler.tell_sizes(TierSizes(self._pool.pages, l2_slots))
        yield True
        while not 0 < scheduler.sizes_step <= ranks.offloads_done():
            yield False


def _check_room(more_bytes: int) -> None:
    for room in memory_rooms(Path("/")):
        if more_bytes > room.bytes:
            raise ChangeRefused(
                f"l1 would take {more_bytes} bytes more, and {room.source} leaves {room.bytes}: "
                "free memory, or choose a smaller size"
            )


def _too_large(tier: str, pages: int, size_bytes: int) -> ChangeRefused:
    return ChangeRefused(
        f"{tier} was given memory for {pages} pages ({size_bytes} bytes) when the engine started: "
        f"for more, set `tiers.{tier}.size` and launch again"
    )
