"""Opens L2 (over its memory) and L3. What fails is left out: the engine starts all the same."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kvtier_engine.kv.admit import Admission, WriteBudget
from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.kv.host import HostTier
from kvtier_engine.kv.policy import make_policy
from kvtier_engine.kv.priority import ByPriority
from kvtier_engine.kv.save import SaveRules
from kvtier_store import DirectorySpec, Eviction, Store, StoreError, StoreOptions

if TYPE_CHECKING:
    from kvtier_engine.config import EngineConfig, L3Eviction
    from kvtier_engine.core.host_memory import HostMemory

log = logging.getLogger(__name__)

L3_OPEN_S_MAX = 10.0  # a disk that hangs joins later
L3_CLOSE_S_MAX = 10.0  # a clean stop waits no longer for it
L3_BLOCK_BYTES = 4096
L3_SLOT_EXTRA = 4096 + 256  # that a page takes besides its own blocks: header, journal

_EVICTION: dict[L3Eviction, Eviction] = {
    "lru": Eviction.LRU,
    "keep_reused": Eviction.KEEP_REUSED,
}


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
