"""NUMA: L2 beside the GPUs, and the nodes that this process may take memory from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kvtier_ops.doctor.check import Check, Context, Needs, Outcome, Severity
from kvtier_ops.doctor.checks.memory import host_bytes, host_items
from kvtier_ops.doctor.place import in_container
from kvtier_ops.host.sysfs import parse_list, read_text
from kvtier_ops.plan import Plan
from kvtier_ops.units import format_bytes


def l2_beside_gpus(context: Context) -> Iterator[Outcome]:
    """Each rank's part of L2 against the node of its GPU."""
    plan = context.plan
    if plan is None or plan.device != "cuda" or not plan.l2.pages:
        return
    if len(plan.host.numa_nodes) < 2:
        return
    gpus = plan.host.gpus[: plan.ranks.here]
    known = [(rank, gpu.numa_node) for rank, gpu in enumerate(gpus) if gpu.numa_node is not None]
    if not known:
        return
    parts = plan.numa_nodes
    far = [
        f"GPU {rank} is on node {node}, its part of L2 on "
        + (f"node {parts[rank % len(parts)]}" if parts else "any")
        for rank, node in known
        if not parts or parts[rank % len(parts)] != node
    ]
    placed = ", ".join(str(node) for _, node in known)
    yield Outcome(
        ok=not far,
        required="each rank's part of L2 on the node of its GPU",
        current="; ".join(far) or f"the parts are on nodes {placed}, as the GPUs",
        fix=_nearer(plan),
        reason=f"L2 of {format_bytes(plan.l2.bytes)} is copied to {len(gpus)} GPUs",
    )


def _nearer(plan: Plan) -> str:
    if plan.profile.tiers.l2.numa == () or not plan.numa_nodes:
        return "set `tiers.l2.numa: auto`; if it is, make `tiers.l2.size` fit into each node"
    return "set `tiers.l2.numa: auto`"


def nodes_allowed(context: Context) -> Iterator[Outcome]:
    """The cpuset of a container or a unit, which the kernel never goes beyond."""
    plan = context.plan
    allowed = parse_list(_status(context, "Mems_allowed_list"))
    if plan is None or not allowed or not plan.host.numa_nodes:
        return
    wanted = {*plan.numa_nodes, *plan.profile.host.memory_nodes}
    missing = sorted(wanted - set(allowed))
    needed, there = host_bytes(plan), _bytes_of(plan, allowed)
    is_short = bool(there) and set(allowed) < set(plan.host.node_ids) and there < needed
    wish = ",".join(map(str, sorted({*allowed, *missing} if missing else plan.host.node_ids)))
    fix = f"`--cpuset-mems {wish}` where the container is started"
    if not in_container(context.root):
        fix = f"`systemctl set-property UNIT AllowedMemoryNodes={wish}`, or start it elsewhere"
    shown = ", ".join(map(str, allowed))
    current = f"nodes {shown}"
    if missing:
        current += f"; not {', '.join(map(str, missing))}"
    if is_short:
        current += f", which have {format_bytes(there)} together"
    yield Outcome(
        ok=not missing and not is_short,
        required="nodes of `tiers.l2.numa` and `host.memory_nodes`, with memory for the plan",
        current=current,
        fix=fix,
        reason=f"the plan takes {format_bytes(needed)}: {host_items(plan)}",
    )


def own_policy(context: Context) -> Iterator[Outcome]:
    """What `numactl` before kvtier would have set: the engine inherits it."""
    plan = context.plan
    first = read_text(context.root / "proc/self/numa_maps").partition("\n")[0].split()
    if plan is None or len(first) < 2 or context.is_its_launcher:
        return
    # `bind:0-1`, `prefer:0`, `interleave:0-1`, `bind=static:0`, `default`
    match = re.fullmatch(r"(bind|prefer(?: \(many\))?)(?:=\w+)?:([\d,-]+)", first[1])
    nodes = parse_list(match[2]) if match else []
    is_bound = match is not None and match[1] == "bind"
    needed, there = host_bytes(plan), _bytes_of(plan, nodes)
    is_short = is_bound and bool(there) and there < needed
    current = f"`{first[1]}`"
    if nodes and there:
        current += f", of nodes with {format_bytes(there)}"
    yield Outcome(
        ok=not is_short,
        required="`default`, or nodes with memory for the plan",
        current=current,
        fix="start kvtier without `numactl --membind`: `host.memory_nodes` and `tiers.l2.numa` do "
        "it, and are planned for",
        reason=f"the plan takes {format_bytes(needed)}: {host_items(plan)}",
    )


def _bytes_of(plan: Plan, nodes: list[int]) -> int:
    return sum(node.total_bytes for node in plan.host.numa_nodes if node.id in nodes)


def _status(context: Context, name: str) -> str:
    for line in read_text(context.root / "proc/self/status").splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2]
    return ""


CHECKS = (
    Check(
        "KVT-D221",
        "numa",
        "L2 and GPUs",
        Severity.WARNING,
        l2_beside_gpus,
        needs=Needs.PLAN,
        passes="each rank's part of L2 lies on the NUMA node of its GPU",
        why="A copy between a GPU and memory of the other socket goes through the link between "
        "sockets, which all ranks share: restores take longer. `tiers.l2.numa: "
        "auto` puts each part beside its GPU, unless the node is too small for it. The fix "
        "returns to that.",
    ),
    Check(
        "KVT-D222",
        "numa",
        "nodes allowed",
        Severity.FAILURE,
        nodes_allowed,
        needs=Needs.PLAN,
        passes="the cpuset allows the NUMA nodes that the plan uses, with memory enough",
        why="A cpuset of a container keeps memory to some nodes. Binding to another one fails, "
        "and a plan that is larger than the allowed nodes ends in the kernel killing the engine "
        "while the host has memory free. The fix widens the cpuset.",
    ),
    Check(
        "KVT-D223",
        "numa",
        "memory policy of this process",
        Severity.FAILURE,
        own_policy,
        needs=Needs.PLAN,
        passes="no `numactl --membind` keeps kvtier to nodes that are too small",
        why="`numactl --membind=0`, as guides advise, binds all memory to one node, and an L2 "
        "larger than that node ends in the engine being killed with half of the host's memory "
        "free. The engine inherits the policy of the process that launches. The fix leaves "
        "binding to the profile, where the plan counts with it.",
    ),
)
