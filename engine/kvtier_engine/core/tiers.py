"""Opens L2 and L3. Neither can keep the engine from starting: what fails is left out."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvtier_engine.kv.admit import Admission, WriteBudget
from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.kv.host import HostTier
from kvtier_engine.kv.policy import make_policy
from kvtier_engine.kv.priority import ByPriority
from kvtier_engine.kv.save import SaveRules
from kvtier_store import (
    Arena,
    ArenaError,
    Backing,
    DirectorySpec,
    Eviction,
    Store,
    StoreError,
    StoreOptions,
)

if TYPE_CHECKING:
    from kvtier_engine.config import EngineConfig, Hugepages, L3Eviction

log = logging.getLogger(__name__)

L3_OPEN_S_MAX = 10.0  # a disk that hangs joins later
L3_CLOSE_S_MAX = 10.0  # a clean stop waits no longer for it
L3_BLOCK_BYTES = 4096
L3_SLOT_EXTRA = 4096 + 256  # that a page takes besides its own blocks: header, journal

_BACKING: dict[Hugepages, Backing] = {
    "none": Backing.PLAIN,
    "transparent": Backing.TRANSPARENT,
    "2MiB": Backing.HUGE_2M,
    "1GiB": Backing.HUGE_1G,
}
_EVICTION: dict[L3Eviction, Eviction] = {
    "lru": Eviction.LRU,
    "keep_reused": Eviction.KEEP_REUSED,
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


def open_disk(config: EngineConfig, namespace: bytes) -> DiskTier | None:
    """Opens the page store; None, logged, if it cannot be had."""
    l3 = config.cache.l3
    if not l3.directories:
        return None
    try:
        store = Store.open(
            [DirectorySpec(str(d.path), d.capacity_bytes) for d in l3.directories],
            page_bytes=config.cache.page_bytes,
            namespace=namespace,
            options=StoreOptions(
                reserve_bytes=l3.reserve_bytes,
                eviction=_EVICTION[l3.eviction],
                admit_sightings_min=l3.admit_sightings,
                admit_chain_pages_min=l3.admit_chain_pages,
                open_timeout_s=L3_OPEN_S_MAX,
                close_timeout_s=L3_CLOSE_S_MAX,
            ),
        )
    except (StoreError, OSError, RuntimeError, MemoryError) as error:
        log.error("L3 is out of use, the engine goes on without it: %s", error)
        return None
    stats = store.stats()
    log.info("L3: %d pages recovered in %.3f s", stats.recovered_pages, stats.recovery_s)
    return DiskTier(store)


def save_rules(config: EngineConfig, disk: DiskTier | None) -> SaveRules:
    """What is written to L3, and when. The native store has a rule of its own (admit_sightings,
    admit_chain_pages), after this one."""
    l3 = config.cache.l3
    if disk is None or (l3.admission == "all" and l3.write_bytes_per_day is None):
        return SaveRules(l3.write)
    budget = None
    if l3.write_bytes_per_day is not None:
        budget = WriteBudget(
            l3.write_bytes_per_day, lambda: disk.stats().disk_written_bytes_last_day
        )
    admission = Admission(
        disk.stats().capacity_pages,
        slot_bytes=-(-config.cache.page_bytes // L3_BLOCK_BYTES) * L3_BLOCK_BYTES + L3_SLOT_EXTRA,
        budget=budget,
        is_choosy=l3.admission == "auto",
    )
    return SaveRules(l3.write, admission)
