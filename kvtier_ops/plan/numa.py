"""Which NUMA node each rank's part of L2 lies on."""

from __future__ import annotations

from kvtier_ops.errors import BadInput
from kvtier_ops.host import Host
from kvtier_ops.profile.schema import Profile
from kvtier_ops.units import Auto


def plan_numa(profile: Profile, host: Host, device: str) -> tuple[int, ...]:
    """One node for each rank, or none at all. Raises BadInput."""
    asked, ranks = profile.tiers.l2.numa, profile.engine.tensor_parallel
    if isinstance(asked, Auto):
        return _of_the_gpus(host, ranks) if device == "cuda" else ()
    if asked and len(asked) != ranks:
        raise BadInput(
            f"{_counted(len(asked), 'node')} for {_counted(ranks, 'rank')}: each rank's part of L2 "
            "lies on one",
            f"name {ranks}, such as `[{', '.join(['0'] * ranks)}]`, or set `none`",
            field="tiers.l2.numa",
        )
    missing = [node for node in asked if host.numa_nodes and node not in host.node_ids]
    if missing:
        raise BadInput(
            f"this host has no NUMA node {missing[0]}",
            f"its nodes are {', '.join(map(str, host.node_ids))}",
            field="tiers.l2.numa",
        )
    return asked


def _of_the_gpus(host: Host, ranks: int) -> tuple[int, ...]:
    """Rank r computes on GPU r. None if there is nothing to choose, or one is not known."""
    nodes = [gpu.numa_node for gpu in host.gpus[:ranks]]
    known = tuple(node for node in nodes if node is not None)
    return known if len(host.numa_nodes) > 1 and len(known) == ranks else ()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
