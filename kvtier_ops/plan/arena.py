"""L2: the arena's size in host memory, the hugepages behind it, and the nodes they lie on."""

from __future__ import annotations

from dataclasses import dataclass

from kvtier_ops.errors import PlanDoesNotFit
from kvtier_ops.host import HugepagePool
from kvtier_ops.plan.nodes import NodeLoad, load_of, plan_nodes
from kvtier_ops.plan.places import HUGETLB_BYTES, Room, shortage
from kvtier_ops.plan.question import BLOCK_BYTES, Question, round_up
from kvtier_ops.plan.types import HugepageNeed, TierPlan
from kvtier_ops.units import AUTO, UNITS, Auto, Share, Size, format_bytes

MIB = UNITS["MiB"]
OFF = TierPlan("l2", "-", 0, 0, 0, "off")

# As csrc/store lays the arena out: parts of whole blocks, a table entry for each slot.
ARENA_ENTRY_BYTES = 64
UNIT_BYTES = {"none": 2 * MIB, "transparent": 2 * MIB, **HUGETLB_BYTES}


@dataclass(frozen=True)
class ArenaPlan:
    """Where the arena's bytes come from."""

    from_memory_bytes: int = 0  # the rest lies in hugepages that are reserved already
    hugepages: tuple[HugepageNeed, ...] = ()  # by NUMA node; none: it does not use any
    nodes: tuple[int, ...] = ()  # of each rank's part; none: any


def plan_arena(question: Question, room: Room, left: int) -> tuple[TierPlan, ArenaPlan]:
    """L2 out of what host memory has left, and the hugepages reserved for it.

    Raises PlanDoesNotFit naming the largest that fits, BadInput for `tiers.l2.numa`.
    """
    nodes = plan_nodes(question)
    amount, hugepages = question.profile.tiers.l2.size, question.profile.tiers.l2.hugepages
    reserved = room.hugepage_bytes(hugepages)
    place = f"hugepages of {hugepages}" if hugepages in HUGETLB_BYTES else room.place
    share, reason = asked_share(question, room, left)
    if share > left + reserved:
        raise _too_large(room, share, left + reserved, question.page_bytes)
    pages = _pages(question, share)
    if pages == 0:
        if isinstance(amount, Size) and amount.bytes:
            raise PlanDoesNotFit(
                f"`{amount}` holds no page: a page takes {format_bytes(question.page_bytes)}",
                "give L2 more memory, or `0GiB` for no L2",
                field="tiers.l2.size",
                id="KVT-P203",
            )
        return OFF, ArenaPlan(nodes=nodes)
    layout = (question.page_bytes, question.arena_parts, pages, hugepages)
    taken = arena_bytes(*layout)
    load = load_of(question, _part_bytes(*layout), nodes)
    if load.too_full is not None:
        if not isinstance(question.profile.tiers.l2.numa, Auto):
            raise load.refusal()
        reason += f"; on any node: NUMA node {load.too_full.id} would not hold its part"
        load = NodeLoad()
    elif nodes:
        reason += f"; NUMA nodes {', '.join(map(str, nodes))}, by rank"
    tier = TierPlan("l2", place, taken, pages, pages * question.page_tokens, reason)
    needs = _hugepages(question, room, taken, load)
    return tier, ArenaPlan(max(0, taken - reserved), needs, load.nodes)


def asked_share(question: Question, room: Room, left: int) -> tuple[int, str]:
    """Bytes that L2 may take, and why. Only `auto` goes by what is left."""
    amount, hugepages = question.profile.tiers.l2.size, question.profile.tiers.l2.hugepages
    reserved = room.hugepage_bytes(hugepages)
    if isinstance(amount, Size):
        return amount.bytes, "as the profile says"
    if isinstance(amount, Share):
        total = reserved if reserved else room.usable_bytes
        where = f"free hugepages of {hugepages}" if reserved else room.place
        return amount.of(total), f"{amount} of {where}"
    assert amount is AUTO
    if reserved:
        return reserved, f"auto: all {format_bytes(reserved)} of free hugepages"
    return left // 2, f"auto: half of the {format_bytes(left)} that is left"


def arena_bytes(page_bytes: int, parts: int, pages: int, hugepages: str) -> int:
    """Bytes that the native arena maps: a table, and each rank's part of every slot."""
    unit = UNIT_BYTES[hugepages]
    table = round_up(BLOCK_BYTES + pages * ARENA_ENTRY_BYTES, unit)
    return table + parts * _part_bytes(page_bytes, parts, pages, hugepages)


def _part_bytes(page_bytes: int, parts: int, pages: int, hugepages: str) -> int:
    """Of all slots, one part."""
    stride = round_up(page_bytes // parts, BLOCK_BYTES)
    return round_up(pages * stride, UNIT_BYTES[hugepages])


def _pages(question: Question, share: int) -> int:
    """The most slots whose arena is not larger than `share`: it grows with every slot."""
    hugepages, parts = question.profile.tiers.l2.hugepages, question.arena_parts
    low, high = 0, share // question.page_bytes
    while low < high:
        middle = (low + high + 1) // 2
        if arena_bytes(question.page_bytes, parts, middle, hugepages) <= share:
            low = middle
        else:
            high = middle - 1
    return low


def _hugepages(
    question: Question, room: Room, taken: int, load: NodeLoad
) -> tuple[HugepageNeed, ...]:
    """Hugepages to have free, by node; of all nodes together where parts may lie anywhere."""
    size = HUGETLB_BYTES.get(question.profile.tiers.l2.hugepages)
    if size is None:
        return ()
    if not load.nodes:
        pool = room.pool(size)
        node = room.nodes[0] if len(room.nodes) == 1 else None
        return (
            HugepageNeed(
                node, size, taken // size, pool.total, pool.free, room.nodes, pool.granted
            ),
        )
    rest = taken - sum(load.bytes_by_node.values())  # the table, on the first part's node
    needs = []
    for node, size_there in sorted(load.bytes_by_node.items()):
        extra = rest if node == load.nodes[0] else 0
        found = next((each for each in question.host.numa_nodes if each.id == node), None)
        pool = found.pool(size) if found else HugepagePool(0, 0)
        pages = (size_there + extra) // size
        needs.append(HugepageNeed(node, size, pages, pool.total, pool.free, granted=pool.granted))
    return tuple(needs)


def _too_large(room: Room, asked: int, left: int, page_bytes: int) -> PlanDoesNotFit:
    what, hint = shortage(asked, room.place, left, page_bytes)
    if room.nodes:
        hint += "; `host.memory_nodes: all` lets it use the memory of every node"
    return PlanDoesNotFit(
        what, hint, field="tiers.l2.size", id="KVT-P013" if room.nodes else "KVT-P203"
    )
