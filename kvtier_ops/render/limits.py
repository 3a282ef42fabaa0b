"""What the operating system must let a service have, from its plan."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from kvtier_ops.launch.supervise import END_S_MAX
from kvtier_ops.plan import Plan
from kvtier_ops.plan.memory import HEADROOM_PERCENT
from kvtier_ops.units import UNITS, Share, Size

MIB = UNITS["MiB"]
LAUNCHER_BYTES = 512 * MIB  # the launcher, its children that ask, and page cache that is in use
SPARE_PERCENT = 5
LOCK_SPARE_BYTES = 1024 * MIB  # what drivers and io_uring lock besides L2
SHM_BYTES_LEAST = 64 * MIB
SHM_BYTES_PER_GPU = 512 * MIB  # NCCL's buffers between GPUs of one node
FILES_LEAST = 16384
FILES_PER_DIRECTORY = 64
TUNE_S_MAX = 120
UNDO_S_MAX = 30


@dataclass(frozen=True)
class Limits:
    """Bytes, files and seconds, each with room to spare."""

    memory_bytes: int  # of the cgroup, without reserved hugepages
    needed_bytes: int  # of that, what the plan itself counts
    locked_bytes: int
    shm_bytes: int
    open_files: int
    start_s: int  # until it is ready, unless it says that it goes on
    stop_s: int  # from SIGTERM to the end


def limits_of(plan: Plan) -> Limits:
    """The launcher plans again within the memory limit, and must come to the same sizes: the limit
    also holds what that plan will leave to the system."""
    needed = _needed_bytes(plan)
    server, cluster = plan.profile.server, plan.profile.cluster
    meet_s = cluster.meet_timeout_s if cluster.nodes > 1 else 0
    files = 2 * (plan.profile.engine.max_running + plan.profile.engine.max_queued)
    files += FILES_PER_DIRECTORY * (len(plan.disks) + plan.ranks.here) + 1024
    gpus = plan.ranks.here if plan.device == "cuda" else 0
    return Limits(
        memory_bytes=_limit_bytes(plan, needed),
        needed_bytes=needed,
        locked_bytes=_whole(plan.l2.bytes + LOCK_SPARE_BYTES),
        shm_bytes=SHM_BYTES_LEAST + (SHM_BYTES_PER_GPU * gpus if gpus > 1 else 0),
        open_files=max(FILES_LEAST, 1 << (files - 1).bit_length()),
        start_s=ceil(2 * server.start_timeout_s + plan.answers.arena_s.value + meet_s + TUNE_S_MAX),
        stop_s=ceil(server.drain_s + END_S_MAX + UNDO_S_MAX),
    )


def _needed_bytes(plan: Plan) -> int:
    """Of host memory. Hugepages that are reserved are none of the cgroup's memory."""
    aside = {"headroom", "L2"} if plan.hugepages else {"headroom"}
    return sum(item.bytes for item in plan.memories[-1].items if item.name not in aside)


def _limit_bytes(plan: Plan, needed: int) -> int:
    taken = (needed + LAUNCHER_BYTES) * (100 + SPARE_PERCENT) // 100
    reserve = plan.profile.host.reserve
    if isinstance(reserve, Size):
        return _whole(taken + reserve.bytes)
    percent = reserve.percent if isinstance(reserve, Share) else HEADROOM_PERCENT
    return _whole(int(taken * 100 / max(1, 100 - percent)))


def _whole(size: int) -> int:
    return -(-size // MIB) * MIB
