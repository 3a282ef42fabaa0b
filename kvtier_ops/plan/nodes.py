"""Which NUMA node each rank's part of L2 lies on, and whether the nodes hold their parts."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvtier_ops.errors import BadInput, PlanDoesNotFit
from kvtier_ops.host import NumaNode
from kvtier_ops.plan.places import HUGETLB_BYTES, check_nodes, node_available_bytes
from kvtier_ops.plan.question import Question
from kvtier_ops.units import Auto, Size, format_bytes


@dataclass(frozen=True)
class NodeLoad:
    """What L2 puts on each node; no nodes: its parts lie anywhere."""

    nodes: tuple[int, ...] = ()  # by rank
    bytes_by_node: dict[int, int] = field(default_factory=dict)
    too_full: NumaNode | None = None  # the first that does not hold its parts
    room_bytes: int = 0  # of that node

    def refusal(self) -> PlanDoesNotFit:
        assert self.too_full is not None
        asked = self.bytes_by_node[self.too_full.id]
        return PlanDoesNotFit(
            f"puts {format_bytes(asked)} on NUMA node {self.too_full.id}, which has "
            f"{format_bytes(self.room_bytes)} for it",
            "spread it: name other nodes in `tiers.l2.numa`, set `none`, or make L2 smaller",
            field="tiers.l2.numa",
            id="KVT-P013",
        )


def plan_nodes(question: Question) -> tuple[int, ...]:
    """The NUMA node of each rank's part of L2; none: any. Raises BadInput."""
    asked, ranks = question.profile.tiers.l2.numa, question.ranks.here
    if isinstance(asked, Auto):
        return () if question.on_cpu else _of_the_gpus(question)
    if asked and len(asked) != ranks:
        raise BadInput(
            f"{_counted(len(asked), 'node')} for {_counted(ranks, 'rank')}: each rank's part of "
            "L2 lies on one",
            f"name {ranks}, such as `[{', '.join(['0'] * ranks)}]`, or set `none`",
            field="tiers.l2.numa",
        )
    if question.host.numa_nodes:
        check_nodes(question.host, asked, "tiers.l2.numa")
    bound = question.profile.host.memory_nodes
    outside = [node for node in asked if bound and node not in bound]
    if outside:
        raise BadInput(
            f"puts a part of L2 on NUMA node {outside[0]}, and `host.memory_nodes` leaves it out",
            f"name nodes of {', '.join(map(str, bound))}, or set `host.memory_nodes: all`",
            field="tiers.l2.numa",
        )
    return asked


def _of_the_gpus(question: Question) -> tuple[int, ...]:
    """Rank r computes on GPU r. None if there is nothing to choose, or one is not known."""
    host, ranks = question.host, question.ranks.here
    nodes = [gpu.numa_node for gpu in host.gpus[:ranks]]
    known = tuple(node for node in nodes if node is not None)
    bound = question.profile.host.memory_nodes
    if bound and not set(known) <= set(bound):
        return ()
    return known if len(host.numa_nodes) > 1 and len(known) == ranks else ()


def load_of(question: Question, part_bytes: int, nodes: tuple[int, ...]) -> NodeLoad:
    """`part_bytes`: of all slots, one part. Ranks that keep the same head share a part: it lies
    with the first of them."""
    if not nodes:
        return NodeLoad()
    parts, ranks = question.arena_parts, question.ranks.here
    loads: dict[int, int] = {}
    for part in range(parts):
        where = nodes[part * ranks // parts]
        loads[where] = loads.get(where, 0) + part_bytes
    for node in question.host.numa_nodes:
        room = _room(question, node)
        if node.total_bytes and loads.get(node.id, 0) > room:
            return NodeLoad(nodes, loads, node, room)
    return NodeLoad(nodes, loads)


def _room(question: Question, node: NumaNode) -> int:
    """For L2: hugepages that are free there, and memory that could be made some. A size that
    kvtier chooses takes no more than the hugepages that there are."""
    l2 = question.profile.tiers.l2
    size = HUGETLB_BYTES.get(l2.hugepages, 0)
    free = node.pool(size).free * size
    is_chosen = not isinstance(l2.size, Size)
    any_free = any(size in each.hugepages for each in question.host.numa_nodes)
    if is_chosen and size and any_free and question.host.hugepages_free(size):
        return free
    return node_available_bytes(question.host, node) + free


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
