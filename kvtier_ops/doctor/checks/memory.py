"""Checks of the host's memory against the plan."""

from __future__ import annotations

from collections.abc import Iterator

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.doctor.place import in_container, write_fix
from kvtier_ops.errors import BadInput, ModelError, Refused
from kvtier_ops.host.cgroup import read_limits
from kvtier_ops.host.sysfs import read_int, read_text
from kvtier_ops.plan import Plan
from kvtier_ops.tune.find import THP_MATTERS_BYTES
from kvtier_ops.units import UNITS, format_bytes

# Below this, what of it is swapped does not matter.
_L2_MATTERS_BYTES = 8 * UNITS["GiB"]
_SWAPPINESS_MAX = 10
_SWAP_USED_BYTES_MAX = 256 * UNITS["MiB"]
_NEVER_OVERCOMMIT = 2
_SWAPPINESS = "/proc/sys/vm/swappiness"
_OVERCOMMIT = "/proc/sys/vm/overcommit_memory"


def plan_fits(context: Context) -> Iterator[Outcome]:
    """Weights, work and all tiers of the plan against memory and disk."""
    if isinstance(context.refusal, Refused):
        for problem in context.refusal.problems:
            subject = f"{problem.id}: " if problem.id else ""
            subject += f"`{problem.field}` " if problem.field else ""
            yield Outcome(
                False, "memory and disk for the plan", subject + problem.what, problem.hint
            )
    elif context.plan:
        for memory in context.plan.memories:
            needed = memory.usable_bytes - memory.left_bytes
            yield Outcome(
                ok=True,
                required=f"{format_bytes(needed)} of {memory.place} by the plan",
                current=f"{format_bytes(memory.usable_bytes)} of {memory.place} can be used, "
                f"{format_bytes(needed)} are planned for",
            )


def profile_suits(context: Context) -> Iterator[Outcome]:
    """What the profile says of ranks, nodes and tiers, against the model and the host."""
    if isinstance(context.refusal, BadInput) and not isinstance(context.refusal, ModelError):
        for problem in context.refusal.problems:
            subject = f"`{problem.field}` " if problem.field else ""
            yield Outcome(False, "fields that agree", subject + problem.what, problem.hint)
    elif context.prepared:
        yield Outcome(True, "fields that agree", "they agree")


def host_bytes(plan: Plan) -> int:
    """Of host memory, that the plan takes."""
    memory = plan.memories[-1]
    return memory.usable_bytes - memory.left_bytes


def host_items(plan: Plan) -> str:
    """The larger shares of it, as a reason: `L2 400 GiB, weights 12 GiB`."""
    items = sorted(plan.memories[-1].items, key=lambda item: -item.bytes)[:3]
    return ", ".join(f"{item.name} {format_bytes(item.bytes)}" for item in items if item.bytes)


def cgroup_memory(context: Context) -> Iterator[Outcome]:
    """A container's limit kills, where a full host would only be slow."""
    if context.prepared is None or context.prepared.host.cgroup_limit_bytes is None:
        return
    host, plan = context.prepared.host, context.prepared.plan
    assert host.cgroup_limit_bytes is not None
    needed = host_bytes(plan)
    granted = max(0, host.cgroup_limit_bytes - host.cgroup_used_bytes)
    limit = -(-(needed + host.cgroup_used_bytes) // UNITS["MiB"])
    raised = (
        f"outside, start the container with `--memory {limit}m` (Kubernetes: `resources.limits."
        f"memory: {limit}Mi`)"
        if in_container(context.root)
        else f"raise the group's limit to {limit} MiB (`systemctl set-property UNIT "
        f"MemoryMax={limit}M`)"
    )
    yield Outcome(
        ok=granted >= needed,
        required=f"{format_bytes(needed)} below the cgroup's limit",
        current=f"{format_bytes(granted)} of {format_bytes(host.cgroup_limit_bytes)} is left",
        fix=f"{raised}, or make `tiers.l2.size` smaller",
        reason=host_items(plan),
    )


def transparent_hugepages(context: Context) -> Iterator[Outcome]:
    """A large arena in pages of 4 KiB makes every copy slower."""
    plan = context.plan
    if plan is None or plan.l2.bytes < THP_MATTERS_BYTES:
        return
    if plan.profile.tiers.l2.hugepages != "transparent":
        return
    name = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
    text = read_text(context.root / name[1:])
    chosen = text.partition("[")[2].partition("]")[0]
    if not chosen:
        return
    yield Outcome(
        ok=chosen in ("always", "within_size", "advise", "force"),
        required="`advise` or `always`",
        current=f"`{chosen}`",
        fix=write_fix(context, "advise", name, tuned=True),
        reason=f"L2 of {format_bytes(plan.l2.bytes)} are "
        f"{plan.l2.bytes // 4096:,} pages of 4 KiB without",
    )


def swap(context: Context) -> Iterator[Outcome]:
    """L2 in pages that the kernel may swap out: what it reads back is slower than L3."""
    plan = context.plan
    if plan is None or not _is_swappable(plan):
        return
    values = _meminfo(context)
    total, used = values.get("SwapTotal", 0), values.get("SwapTotal", 0) - values.get("SwapFree", 0)
    swappiness = read_int(context.root / _SWAPPINESS[1:])
    if swappiness is None:
        return
    reason = f"L2 of {format_bytes(plan.l2.bytes)} lies in memory that can be swapped out"
    required = f"no swap, or vm.swappiness of {_SWAPPINESS_MAX} at most and hardly any in use"
    if not total or read_limits(context.root).swap_bytes == 0:
        current = "the control group grants none" if total else "there is no swap"
        yield Outcome(True, required, current, reason=reason)
        return
    is_used = used > _SWAP_USED_BYTES_MAX
    lower = write_fix(context, "1", _SWAPPINESS)
    empty = "`sudo swapoff -a && sudo swapon -a` when memory is free again"
    fixes = [lower] * (swappiness > _SWAPPINESS_MAX) + [empty] * is_used
    yield Outcome(
        ok=not fixes,
        required=required,
        current=f"vm.swappiness is {swappiness}; {format_bytes(used)} of {format_bytes(total)} "
        "of swap are in use",
        fix="; ".join(fixes) + "; or `tiers.l2.hugepages: 2MiB`, which is never swapped",
        reason=reason,
    )


def _is_swappable(plan: Plan) -> bool:
    """Hugepages and what a GPU has page-locked stay where they are."""
    is_plain = plan.profile.tiers.l2.hugepages in ("none", "transparent")
    return is_plain and plan.device == "cpu" and plan.l2.bytes >= _L2_MATTERS_BYTES


def overcommit(context: Context) -> Iterator[Outcome]:
    """With vm.overcommit_memory 2 the kernel refuses memory that is free."""
    plan = context.plan
    mode = read_int(context.root / _OVERCOMMIT[1:])
    if plan is None or mode is None:
        return
    if mode == _NEVER_OVERCOMMIT and context.serving:
        return  # what is committed holds the running engine's part already
    needed = host_bytes(plan)
    required = f"0 or 1, or {format_bytes(needed)} below the commit limit"
    if mode != _NEVER_OVERCOMMIT:
        yield Outcome(True, required, f"vm.overcommit_memory is {mode}")
        return
    values = _meminfo(context)
    left = max(0, values.get("CommitLimit", 0) - values.get("Committed_AS", 0))
    yield Outcome(
        ok=left >= needed,
        required=required,
        current=f"vm.overcommit_memory is 2, and {format_bytes(left)} may still be asked for",
        fix=write_fix(context, "0", _OVERCOMMIT) + ", or raise vm.overcommit_ratio",
        reason=host_items(plan),
    )


def _meminfo(context: Context) -> dict[str, int]:
    """Name -> bytes."""
    found = {}
    for line in read_text(context.root / "proc/meminfo").splitlines():
        words = line.replace(":", " ").split()
        if len(words) == 3 and words[1].isdecimal():
            found[words[0]] = int(words[1]) * 1024
    return found


CHECKS = (
    Check(
        "KVT-D201",
        "memory",
        "the plan fits",
        Severity.FAILURE,
        plan_fits,
        needs=Needs.PROFILE,
        passes="the plan fits into memory and disk",
        why="Everything that the profile asks for, weights, work and all tiers, is counted and "
        "compared with what is available now. What does not fit would be refused at the start "
        "or, worse, be taken from others. The text names the field and the largest value that "
        "fits; `kvtier plan` shows every share.",
    ),
    Check(
        "KVT-D202",
        "memory",
        "cgroup limit",
        Severity.FAILURE,
        cgroup_memory,
        needs=Needs.PLAN,
        passes="the cgroup still grants what the plan needs",
        why="Memory beyond a control group's limit is not slow but deadly: the kernel kills the "
        "engine, often hours after the start, when L2 has filled. L2's pages count, as does the "
        "page cache that cannot be dropped. The fix raises the limit, of the container or of the "
        "systemd unit.",
    ),
    Check(
        "KVT-D203",
        "memory",
        "transparent hugepages",
        Severity.WARNING,
        transparent_hugepages,
        needs=Needs.PLAN,
        passes="an L2 of 8 GiB or more gets transparent hugepages",
        why="L2 is shared memory, which gets huge pages only as shmem_enabled says, whatever "
        "`enabled` is. In pages of 4 KiB, copies walk large page tables, page-locking takes "
        "longer, and reads from disk are slower by a quarter or more. The fix lets memory "
        "that asks for huge pages have them; nothing else changes.",
    ),
    Check(
        "KVT-D204",
        "memory",
        "profile, model and host",
        Severity.FAILURE,
        profile_suits,
        needs=Needs.PROFILE,
        passes="ranks, nodes and tiers of the profile suit the model and the host",
        why="Fields that are right alone can contradict one another, the model or the host: ranks "
        "that do not divide the kv heads, a NUMA node that is not there. Without an end to that "
        "there is no plan. The fix names the field.",
    ),
    Check(
        "KVT-D206",
        "memory",
        "swap",
        Severity.WARNING,
        swap,
        needs=Needs.PLAN,
        passes="a large L2 in ordinary pages is not likely to be swapped out",
        why="The kernel takes pages of L2 that were not used for a while for a good thing to swap "
        "out. A restore then waits for a page fault of 4 KiB each, slower than a read of L3 and "
        "slower than computing. Swap that is in use says that memory was short before. The fix "
        "makes the kernel swap only when it must.",
    ),
    Check(
        "KVT-D207",
        "memory",
        "overcommit",
        Severity.FAILURE,
        overcommit,
        needs=Needs.PLAN,
        passes="vm.overcommit_memory is 0 or 1, or the commit limit has room for the plan",
        why="With vm.overcommit_memory at 2 the kernel counts what has been asked for, not what "
        "is used, and refuses more than a part of memory: L2 or the weights fail to map on a "
        "host with plenty free. The fix goes back to the kernel's default.",
    ),
)
