"""Limits of processes against what the engine will need: locked memory, files, addresses."""

from __future__ import annotations

from collections.abc import Iterator

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.doctor.checks.memory import host_bytes, host_items
from kvtier_ops.doctor.place import limit_fix
from kvtier_ops.host.sysfs import read_text
from kvtier_ops.plan import Plan
from kvtier_ops.units import UNITS, format_bytes

_CAP_IPC_LOCK = 14
# Descriptors that do not depend on the profile: libraries, pipes, logs, sockets of the processes.
_FILES_BASE = 256
_SEGMENTS_MAX = 64  # files of a store's directory when it is made; see csrc/store/superblock.cc
_WEIGHT_FILES = 64
# Address space beside the plan's memory: libraries, stacks and heaps of threads, mapped weights.
_ADDRESS_BASE_BYTES = 16 * UNITS["GiB"]


def locked_memory(context: Context) -> Iterator[Outcome]:
    """On a GPU alone: on a CPU the engine locks nothing."""
    plan = context.plan
    if plan is None or plan.device != "cuda" or not plan.l2.pages:
        return
    limit, needed = _limit(context, "Max locked memory"), plan.l2.bytes
    may_lock_all = limit is None or _has_capability(context, _CAP_IPC_LOCK)
    shown = "unlimited" if limit is None else format_bytes(limit)
    yield Outcome(
        ok=may_lock_all or (limit or 0) >= needed,
        required=f"{format_bytes(needed)} may be locked",
        current=f"{shown} (`ulimit -Hl`)"
        + (", and CAP_IPC_LOCK" if may_lock_all and limit else ""),
        fix=limit_fix(
            context,
            prlimit="--memlock=unlimited",
            systemd="LimitMEMLOCK=infinity",
            docker="--ulimit memlock=-1:-1",
        ),
        reason=f"GPUs copy fastest from page-locked memory, and L2 is {format_bytes(needed)}",
    )


def open_files(context: Context) -> Iterator[Outcome]:
    """A descriptor for each connection, each file of L3, and what there is anyway."""
    plan, limit = context.plan, _limit(context, "Max open files")
    if plan is None:
        return
    needed, reason = _files_needed(plan)
    yield Outcome(
        ok=limit is None or limit >= needed,
        required=f"{needed:,} open files",
        current="unlimited" if limit is None else f"{limit:,} (`ulimit -Hn`)",
        fix=limit_fix(
            context,
            prlimit=f"--nofile={max(65536, needed)}",
            systemd=f"LimitNOFILE={max(65536, needed)}",
            docker=f"--ulimit nofile={max(65536, needed)}",
        ),
        reason=reason,
    )


def _files_needed(plan: Plan) -> tuple[int, str]:
    engine = plan.profile.engine
    clients = engine.max_running + engine.max_queued
    segments = len(plan.disks) * _SEGMENTS_MAX
    needed = _FILES_BASE + clients + segments + _WEIGHT_FILES + 16 * plan.ranks.here
    reason = f"{engine.max_running:,} running and {engine.max_queued:,} waiting requests"
    return needed, reason + (f", {segments} files of L3" if segments else "")


def address_space(context: Context) -> Iterator[Outcome]:
    """RLIMIT_AS counts what is mapped, whether it is used or not."""
    plan, limit = context.plan, _limit(context, "Max address space", hard=False)
    if plan is None:
        return
    on_gpu = plan.device == "cuda"
    needed = host_bytes(plan) + _ADDRESS_BASE_BYTES
    yield Outcome(
        ok=limit is None or (not on_gpu and limit >= needed),
        required="unlimited" if on_gpu else f"{format_bytes(needed)}, or unlimited",
        current="unlimited" if limit is None else f"{format_bytes(limit)} (`ulimit -v`)",
        fix=limit_fix(
            context,
            prlimit="--as=unlimited",
            systemd="LimitAS=infinity",  # docker's --ulimit does not know it
        ),
        reason="CUDA reserves addresses for all memory of host and GPUs"
        if on_gpu
        else f"{host_items(plan)}, and what libraries and threads map",
    )


def _limit(context: Context, name: str, *, hard: bool = True) -> int | None:
    """Of this process; None: there is none. Soft limits of files and locked memory do not matter,
    since launch raises them to the hard ones."""
    for line in read_text(context.root / "proc/self/limits").splitlines():
        if line.startswith(name):
            value = line[len(name) :].split()[int(hard)]
            return int(value) if value.isdecimal() else None
    return None


def _has_capability(context: Context, number: int) -> bool:
    for line in read_text(context.root / "proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


CHECKS = (
    Check(
        "KVT-D211",
        "memory",
        "locked memory",
        Severity.WARNING,
        locked_memory,
        needs=Needs.PLAN,
        passes="the memlock limit is at least L2, on GPUs; on a CPU nothing is locked",
        why="Copies between L1 and L2 run at the link's full rate only from page-locked memory. "
        "Where the limit is lower than L2, the driver may lock a part alone, and copies of the "
        "rest go through a buffer, slower. The fix raises the limit for the process "
        "that launches; the engine inherits it.",
    ),
    Check(
        "KVT-D212",
        "memory",
        "open files",
        Severity.WARNING,
        open_files,
        needs=Needs.PLAN,
        passes="the limit of open files has room for all requests and for L3's files",
        why="Every connection is an open file, as is every segment of L3 and every file of "
        "weights. At the limit, new connections fail and L3 is taken out of use, under load and "
        "not before. The fix raises the limit for the process that launches.",
    ),
    Check(
        "KVT-D213",
        "memory",
        "address space",
        Severity.FAILURE,
        address_space,
        needs=Needs.PLAN,
        passes="the address space is unlimited, or on a CPU larger than the plan",
        why="`ulimit -v` counts what is mapped, not what is used: a store of shared memory that "
        "is barely filled counts whole, and CUDA reserves addresses for everything there is. "
        "Mapping fails then with memory free. The fix lifts the limit.",
    ),
)
