"""Hugepages by NUMA node: what the plan takes, and whether this host can have them.

That too few are reserved is the plan's own warning, KVT-P011. This check passes where there are
enough, and fails where reserving more would not help.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.doctor.place import in_container
from kvtier_ops.host.cgroup import read_limits
from kvtier_ops.host.numa import read_hugepages
from kvtier_ops.plan.types import HugepageNeed, Plan
from kvtier_ops.units import format_bytes


def hugepages(context: Context) -> Iterator[Outcome]:
    """A line for each node that L2 takes hugepages of."""
    plan = context.plan
    if plan is None:
        return
    sizes = read_hugepages(context.root / "sys/kernel/mm/hugepages")
    # What the running engine has is charged to the group, and comes back with it.
    granted = {} if context.serving else read_limits(context.root).hugepage_bytes
    for need in plan.hugepages:
        size, reason = format_bytes(need.page_bytes), _reason(plan, need)
        where = f"of {size}" + (f" on NUMA node {need.node}" if need.node is not None else "")
        required = f"{need.pages:,} free pages {where}"
        current = f"{need.reserved:,} are reserved, {need.free:,} of them can be had"
        if sizes and need.page_bytes not in sizes:
            known = ", ".join(format_bytes(each) for each in sorted(sizes))
            yield Outcome(
                False,
                required,
                f"this kernel, or this CPU, has none of {size}; it has {known}",
                "set `tiers.l2.hugepages` to one that there is, or to `transparent`",
                where,
                reason,
            )
        elif need.missing and granted.get(need.page_bytes, need.pages * need.page_bytes) < (
            need.pages * need.page_bytes
        ):
            limit = need.pages * need.page_bytes
            yield Outcome(
                False,
                required,
                f"{current}; the control group grants "
                f"{format_bytes(granted[need.page_bytes])} more",
                _granting(context, need, limit),
                where,
                reason,
            )
        elif not need.missing:
            yield Outcome(True, required, current, subject=where, reason=reason)


def _reason(plan: Plan, need: HugepageNeed) -> str:
    return (
        f"L2 of {format_bytes(plan.l2.bytes)} takes {need.pages:,} pages of "
        f"{format_bytes(need.page_bytes)}"
    )


def _granting(context: Context, need: HugepageNeed, limit: int) -> str:
    mib = need.page_bytes >> 20
    kubernetes = f"`resources.limits.hugepages-{mib}Mi: {limit >> 20}Mi`"
    if mib >= 1024:
        kubernetes = f"`resources.limits.hugepages-{mib >> 10}Gi: {limit >> 30}Gi`"
    name = f"{mib >> 10}GB" if mib >= 1024 else f"{mib}MB"
    if in_container(context.root):
        return (
            f"outside, grant them: in Kubernetes {kubernetes}, else `hugetlb.{name}.max` of the "
            "container's group; or set `tiers.l2.hugepages: transparent`"
        )
    return (
        f"`echo {limit} | sudo tee /sys/fs/cgroup/GROUP/hugetlb.{name}.max`, with the group of "
        "`cat /proc/self/cgroup`; or set `tiers.l2.hugepages: transparent`"
    )


CHECKS = (
    Check(
        "KVT-D205",
        "memory",
        "hugepages",
        Severity.FAILURE,
        hugepages,
        needs=Needs.PLAN,
        passes="the hugepages that L2 takes exist, by node, and the cgroup grants them "
        "(too few reserved: KVT-P011)",
        why="`tiers.l2.hugepages: 2MiB` or `1GiB` takes pages that were reserved before, on the "
        "NUMA nodes of the ranks' GPUs. A CPU may not have pages of 1 GiB, and a control group "
        "may grant fewer than are reserved, as Kubernetes does unless the pod asks: then the "
        "kernel kills whoever touches one too many. The fix says where to grant them; how many "
        "to reserve is said by KVT-P011.",
    ),
)
