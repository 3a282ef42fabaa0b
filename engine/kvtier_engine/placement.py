"""Where a process runs and takes its memory from: CPUs and NUMA nodes (Linux, set_mempolicy(2))."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from collections.abc import Sequence
from enum import IntEnum

from kvtier_engine.config import EngineConfig, RankPlacement

log = logging.getLogger(__name__)

_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}  # number of the system call
_WORD_BITS = 64


class Policy(IntEnum):
    """As <linux/mempolicy.h> numbers them."""

    PREFERRED = 1
    BIND = 2
    INTERLEAVE = 3


def set_memory_policy(policy: Policy, nodes: Sequence[int]) -> None:
    """For this thread, and every thread and process that it starts. Raises OSError."""
    number = _SET_MEMPOLICY.get(platform.machine())
    if number is None:
        raise OSError(0, f"the number of set_mempolicy on {platform.machine()} is not known")
    words = max(nodes) // _WORD_BITS + 1
    mask = (ctypes.c_uint64 * words)()
    for node in nodes:
        mask[node // _WORD_BITS] |= 1 << node % _WORD_BITS
    libc = ctypes.CDLL(None, use_errno=True)
    # The kernel takes one bit less than it is told.
    if libc.syscall(number, int(policy), mask, ctypes.c_ulong(words * _WORD_BITS + 1)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


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
