"""What of the host's memory the plan may use: all of it, or that of some NUMA nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvtier_ops.errors import BadInput
from kvtier_ops.host import Host, HugepagePool, NumaNode
from kvtier_ops.plan.question import Question
from kvtier_ops.units import UNITS, format_bytes

MIB = UNITS["MiB"]
HUGETLB_BYTES = {"2MiB": 2 * MIB, "1GiB": UNITS["GiB"]}


@dataclass(frozen=True)
class Room:
    """Memory to plan with. `limit` says, in words, what makes it less than the host has."""

    place: str
    usable_bytes: int
    limit: str = ""
    hugepages: Mapping[int, HugepagePool] = field(default_factory=dict)  # page bytes -> pool
    nodes: tuple[int, ...] = ()  # of `host.memory_nodes`; none: all

    def pool(self, page_bytes: int) -> HugepagePool:
        return self.hugepages.get(page_bytes, HugepagePool(0, 0))

    def hugepage_bytes(self, hugepages: str) -> int:
        """Reserved and free, of the size that a profile names; 0 where it names none."""
        size = HUGETLB_BYTES.get(hugepages, 0)
        return self.pool(size).free * size


def host_room(question: Question) -> Room:
    """Raises BadInput for a NUMA node that the host does not have."""
    host, asked = question.host, question.profile.host.memory_nodes
    limit = " (the cgroup's limit)" if host.is_limited_by_cgroup else ""
    if not asked:
        return Room("host memory", host.usable_memory_bytes, limit, host.hugepages)
    nodes = _nodes_named(host, asked)
    available = sum(node_available_bytes(host, node) for node in nodes)
    usable = min(host.usable_memory_bytes, available)
    names = ", ".join(str(node.id) for node in nodes)
    place = f"NUMA node{'s' * (len(nodes) > 1)} {names} (`host.memory_nodes`)"
    return Room(place, usable, limit if usable < available else "", _pools(nodes), asked)


def _pools(nodes: tuple[NumaNode, ...]) -> dict[int, HugepagePool]:
    """Hugepages of these nodes together."""
    pools: dict[int, HugepagePool] = {}
    for node in nodes:
        for size, pool in node.hugepages.items():
            before = pools.get(size, HugepagePool(0, 0))
            total, free = before.total + pool.total, before.free + pool.free
            pools[size] = HugepagePool(total, free, pool.granted)  # the grant is of all nodes
    return pools


def _nodes_named(host: Host, ids: tuple[int, ...]) -> tuple[NumaNode, ...]:
    check_nodes(host, ids, "host.memory_nodes")
    return tuple(node for node in host.numa_nodes if node.id in ids)


def check_nodes(host: Host, ids: tuple[int, ...], name: str) -> None:
    """Raises BadInput for the profile's field `name`, if a node is not there."""
    if ids and not host.numa_nodes:
        raise BadInput("this host tells of no NUMA nodes", "set `all`", field=name)
    missing = [node for node in ids if node not in host.node_ids]
    if missing:
        raise BadInput(
            f"this host has no NUMA node {missing[0]}",
            f"its nodes are {', '.join(map(str, host.node_ids))}",
            field=name,
        )


def node_available_bytes(host: Host, node: NumaNode) -> int:
    """What can be used of a node without pushing anybody out: the kernel tells it of the whole
    host only, so every node has its share of that, less the hugepages reserved on it."""
    if not node.total_bytes:
        return host.memory_available_bytes // max(1, len(host.numa_nodes))
    all_plain = sum(map(_plain_bytes, host.numa_nodes))
    return host.memory_available_bytes * _plain_bytes(node) // all_plain if all_plain else 0


def _plain_bytes(node: NumaNode) -> int:
    """Memory that no hugepages are reserved in."""
    reserved = sum(size * pool.total for size, pool in node.hugepages.items())
    return max(0, node.total_bytes - reserved)


def shortage(asked_bytes: int, place: str, left_bytes: int, page_bytes: int) -> tuple[str, str]:
    """What is wrong, and the way out: the largest that fits, if any does."""
    left = max(0, left_bytes)
    largest = left // MIB
    hint = "make the other tiers smaller, or free memory"
    if largest * MIB >= page_bytes:
        hint = f"the largest that fits is `{largest}MiB`"
    what = f"asks for {format_bytes(asked_bytes)}, and {place} has {format_bytes(left)} left for it"
    return what, hint
