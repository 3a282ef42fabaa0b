"""Opens L2 over its memory, with what an earlier engine left in it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kvtier_engine.kv.host import HostTier
from kvtier_engine.kv.policy import make_policy
from kvtier_engine.kv.priority import ByPriority

if TYPE_CHECKING:
    from kvtier_engine.config import EngineConfig
    from kvtier_engine.core.host_memory import HostMemory

log = logging.getLogger(__name__)


def open_host(config: EngineConfig, memory: HostMemory | None) -> HostTier | None:
    """L2's bookkeeping over its memory, with what an earlier engine left in it."""
    if memory is None:
        return None
    name, slots = config.cache.l2.eviction, memory.arena.slots
    host = HostTier(memory.arena, ByPriority(lambda: make_policy(name, slots)))
    if memory.slots_in_use < slots:
        host.resize(memory.slots_in_use)
        while host.outside:  # the engine before this one had more memory
            host.shrink(slots, unsaved=True)
        memory.arena.release(memory.slots_in_use)
    if host.adopted:
        log.info("L2: %d pages of the engine before this one are kept", host.adopted)
    return host
