"""Opens L2. It cannot keep the engine from starting: what fails is left out."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvtier_engine.kv.host import HostTier
from kvtier_engine.kv.policy import make_policy
from kvtier_engine.kv.priority import ByPriority
from kvtier_store import Arena, ArenaError, Backing

if TYPE_CHECKING:
    from kvtier_engine.config import EngineConfig, Hugepages

log = logging.getLogger(__name__)

_BACKING: dict[Hugepages, Backing] = {
    "none": Backing.PLAIN,
    "transparent": Backing.TRANSPARENT,
    "2MiB": Backing.HUGE_2M,
    "1GiB": Backing.HUGE_1G,
}
_MEMFD_FLAGS: dict[Hugepages, int] = {
    "2MiB": os.MFD_HUGETLB | os.MFD_HUGE_2MB,
    "1GiB": os.MFD_HUGETLB | os.MFD_HUGE_1GB,
}


@dataclass(slots=True)
class HostMemory:
    """The arena, and the descriptor through which other ranks map it."""

    arena: Arena
    fd: int


def open_arena(config: EngineConfig, namespace: bytes) -> HostMemory | None:
    """Maps the launcher's memory, or memory of our own; None, logged, if neither can be had."""
    l2 = config.cache.l2
    if not l2.pages:
        return None
    attempts: list[tuple[int | None, Hugepages]] = [(l2.arena_fd, l2.hugepages)]
    if l2.arena_fd is not None or l2.hugepages in _MEMFD_FLAGS:
        attempts.append((None, "transparent"))
    for fd, hugepages in attempts:
        try:
            memory = _map(config, namespace, fd, hugepages)
        except (ArenaError, OSError) as error:
            log.warning("L2 with %s hugepages: %s", hugepages, error)
            continue
        memory.arena.prefault(threads=config.parallel.threads_per_rank)
        log.info(
            "L2: %d slots, %d bytes, backing %s, %s",
            memory.arena.slots,
            memory.arena.mapped_bytes,
            memory.arena.backing.name.lower(),
            "adopted" if memory.arena.adopted else "new",
        )
        return memory
    log.error("L2 is out of use, and L3 with it: the engine goes on with L1 alone")
    return None


def _map(
    config: EngineConfig, namespace: bytes, fd: int | None, hugepages: Hugepages
) -> HostMemory:
    ours = fd is None
    if fd is None:
        fd = os.memfd_create("kvtier-l2", os.MFD_CLOEXEC | _MEMFD_FLAGS.get(hugepages, 0))
    ranks = config.parallel.tensor_parallel
    try:
        arena = Arena.open(
            fd,
            slots=config.cache.l2.pages,
            parts=ranks,
            part_bytes=config.cache.page_bytes // ranks,
            namespace=namespace,
            backing=_BACKING[hugepages],
        )
    except BaseException:
        if ours:
            os.close(fd)
        raise
    return HostMemory(arena, fd)


def open_host(config: EngineConfig, memory: HostMemory | None) -> HostTier | None:
    """L2's bookkeeping over its memory, with what an earlier engine left in it."""
    if memory is None:
        return None
    name, slots = config.cache.l2.eviction, memory.arena.slots
    host = HostTier(memory.arena, ByPriority(lambda: make_policy(name, slots)))
    if host.adopted:
        log.info("L2: %d pages of the engine before this one are kept", host.adopted)
    return host
