"""L2: the arena's size in host memory, the hugepages behind it, and the nodes they lie on."""

from __future__ import annotations

from dataclasses import dataclass

from kvtier_ops.errors import PlanDoesNotFit
from kvtier_ops.plan.places import HUGETLB_BYTES, Room, check_nodes, node_available_bytes
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
    share, reason = _share(question, room, left, reserved)
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
    taken = arena_bytes(question.page_bytes, question.arena_parts, pages, hugepages)
    if nodes:
        reason += f"; NUMA nodes {', '.join(map(str, nodes))}, by rank"
        _check_nodes_hold(question, pages, nodes)
    tier = TierPlan("l2", place, taken, pages, pages * question.page_tokens, reason)
    needs = _hugepages(question, pages, taken, nodes)
    return tier, ArenaPlan(max(0, taken - reserved), needs, nodes)


def _share(question: Question, room: Room, left: int, reserved: int) -> tuple[int, str]:
    """Bytes that L2 may take, and why."""
    amount, hugepages = question.profile.tiers.l2.size, question.profile.tiers.l2.hugepages
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
    stride = round_up(page_bytes // parts, BLOCK_BYTES)
    table = round_up(BLOCK_BYTES + pages * ARENA_ENTRY_BYTES, unit)
    return table + parts * round_up(pages * stride, unit)


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


def plan_nodes(question: Question) -> tuple[int, ...]:
    """The NUMA node of each rank's part of L2; none: any. Raises BadInput."""
    asked, ranks = question.profile.tiers.l2.numa, question.ranks.here
    if isinstance(asked, Auto):
        return () if question.on_cpu else _of_the_gpus(question)
    if asked and len(asked) != ranks:
        raise _wrong_count(len(asked), ranks)
    check_nodes(question.host, asked, "tiers.l2.numa")
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


def _node_parts(question: Question, nodes: tuple[int, ...]) -> dict[int, int]:
    """How many parts of each slot lie on each node. Ranks that keep the same head share a part:
    it lies with the first of them."""
    parts, ranks = question.arena_parts, question.ranks.here
    counts: dict[int, int] = {}
    for part in range(parts):
        node = nodes[part * ranks // parts]
        counts[node] = counts.get(node, 0) + 1
    return counts


def _part_bytes(question: Question, pages: int) -> int:
    """Of all slots, one part."""
    unit = UNIT_BYTES[question.profile.tiers.l2.hugepages]
    stride = round_up(question.page_bytes // question.arena_parts, BLOCK_BYTES)
    return round_up(pages * stride, unit)


def _check_nodes_hold(question: Question, pages: int, nodes: tuple[int, ...]) -> None:
    """Raises PlanDoesNotFit if a node has less memory than the parts that are bound to it."""
    host, hugepages = question.host, question.profile.tiers.l2.hugepages
    part = _part_bytes(question, pages)
    size = HUGETLB_BYTES.get(hugepages, 0)
    for node in host.numa_nodes:
        parts = _node_parts(question, nodes).get(node.id, 0)
        pool = node.hugepages.get(size)
        room = node_available_bytes(host, node) + (pool.free * size if pool else 0)
        if parts and node.total_bytes and parts * part > room:
            raise PlanDoesNotFit(
                f"puts {format_bytes(parts * part)} on NUMA node {node.id}, which has "
                f"{format_bytes(room)} for it",
                "spread it: name other nodes in `tiers.l2.numa`, set `none`, or make L2 smaller",
                field="tiers.l2.numa",
                id="KVT-P013",
            )


def _hugepages(
    question: Question, pages: int, taken: int, nodes: tuple[int, ...]
) -> tuple[HugepageNeed, ...]:
    """Hugepages to have free, by node; of the whole host where parts may lie anywhere."""
    size = HUGETLB_BYTES.get(question.profile.tiers.l2.hugepages)
    if size is None:
        return ()
    host = question.host
    pool = host.hugepages.get(size)
    if not nodes:
        total, free = (pool.total, pool.free) if pool else (0, 0)
        return (HugepageNeed(None, size, taken // size, total, free),)
    part = _part_bytes(question, pages)
    rest = taken - question.arena_parts * part  # the table, on the first part's node
    needs = []
    for node, count in sorted(_node_parts(question, nodes).items()):
        extra = rest if node == nodes[0] else 0
        found = next((each for each in host.numa_nodes if each.id == node), None)
        has = found.hugepages.get(size) if found else None
        total, free = (has.total, has.free) if has else (0, 0)
        needs.append(HugepageNeed(node, size, (count * part + extra) // size, total, free))
    return tuple(needs)


def _wrong_count(named: int, ranks: int) -> Exception:
    from kvtier_ops.errors import BadInput

    def counted(count: int, noun: str) -> str:
        return f"{count} {noun}{'s' * (count != 1)}"

    return BadInput(
        f"{counted(named, 'node')} for {counted(ranks, 'rank')}: each rank's part of L2 "
        "lies on one",
        f"name {ranks}, such as `[{', '.join(['0'] * ranks)}]`, or set `none`",
        field="tiers.l2.numa",
    )


def _too_large(room: Room, asked: int, left: int, page_bytes: int) -> PlanDoesNotFit:
    largest = max(0, left) // MIB
    what = (
        f"asks for {format_bytes(asked)}, and {room.place} has {format_bytes(max(0, left))} left "
        "for it"
    )
    hint = "make the other tiers smaller, or free memory"
    if largest * MIB >= page_bytes:
        hint = f"the largest that fits is `{largest}MiB`"
    if room.is_bound:
        hint += "; `host.memory_nodes: all` lets it use the memory of every node"
    return PlanDoesNotFit(
        what, hint, field="tiers.l2.size", id="KVT-P013" if room.is_bound else "KVT-P203"
    )
