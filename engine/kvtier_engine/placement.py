"""Where a rank's process runs and takes its memory from: CPUs and NUMA nodes."""

from __future__ import annotations

import logging
import os

from kvtier_engine.config import EngineConfig, RankPlacement
from kvtier_engine.memory_policy import Policy, set_memory_policy

log = logging.getLogger(__name__)


def placement_of(config: EngineConfig, rank: int) -> RankPlacement:
    placements = config.parallel.placements
    return placements[rank] if placements else RankPlacement()


def take_memory(placement: RankPlacement) -> None:
    """From the rank's nodes, as long as they have some. A refusal costs only speed."""
    if not placement.memory_nodes:
        return
    policy = Policy.INTERLEAVE if placement.interleave else Policy.PREFERRED
    try:
        set_memory_policy(policy, placement.memory_nodes)
    except OSError as error:
        log.warning(
            "memory may come from any NUMA node, not from %s: %s; in a container, allow "
            "set_mempolicy (CAP_SYS_NICE), or set `host.bind_ranks: none`",
            list(placement.memory_nodes),
            error.strerror,
        )


def keep_to_cpus(placement: RankPlacement) -> None:
    """Those of the rank that this process may use; threads that it starts from now on keep to
    them as well. With none of them it runs where it may."""
    cpus = set(placement.cpus) & os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    elif placement.cpus:
        log.warning(
            "none of the CPUs near the rank's NUMA node may be used here: it runs on %d others; "
            "give this process CPUs of that node, or set `host.bind_ranks: none`",
            len(os.sched_getaffinity(0)),
        )
