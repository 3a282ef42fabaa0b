"""Mistakes that rules of thumb lead to: each is computed, and has a name."""

from __future__ import annotations

from collections.abc import Iterator

from kvtier_ops.host import DriveKind
from kvtier_ops.plan.places import HUGETLB_BYTES
from kvtier_ops.plan.types import HugepageNeed, Plan, Warning_
from kvtier_ops.units import UNITS, Size, format_bytes, format_decimal

_GB, _GIB = UNITS["GB"], UNITS["GiB"]
_IDLE_HUGEPAGE_BYTES_MIN = 256 * UNITS["MiB"]
_PAGE_TOKENS_MAX = 256  # above it, hits are lost on short prompts
_SYSTEM_PERCENT_MIN = 5
_HUGEPAGE_NAMES = {size: name for name, size in HUGETLB_BYTES.items()}


def find(plan: Plan) -> Iterator[Warning_]:
    """Warnings KVT-P01x and KVT-P02x, in the order of their ids."""
    for part in (_hugepages, _units, _system, _shared, _disk_pays, _wear, _pages, _l1, _nodes):
        yield from part(plan)


def _hugepages(plan: Plan) -> Iterator[Warning_]:
    for need in plan.hugepages:
        if need.missing:
            size = _HUGEPAGE_NAMES[need.page_bytes]
            where = f" on NUMA node {need.node}" if need.node is not None else ""
            grant = f", and this cgroup may take {need.granted:,}" if need.is_forbidden else ""
            yield Warning_(
                "KVT-P011",
                f"L2 of {format_bytes(plan.l2.bytes)} takes {need.pages:,} hugepages of {size}"
                f"{where}; {need.reserved:,} are reserved "
                f"({format_bytes(need.reserved * need.page_bytes)}), {need.free:,} of them free"
                f"{grant}",
                f"{_reserve(need)}, or set `tiers.l2.hugepages: transparent`",
                "tiers.l2.hugepages",
                forbids_launch=True,
            )
    used = {need.page_bytes for need in plan.hugepages}
    for page_bytes, pool in sorted(plan.host.hugepages.items()):
        idle = pool.free * page_bytes
        if page_bytes not in used and idle >= _IDLE_HUGEPAGE_BYTES_MIN:
            yield Warning_(
                "KVT-P012",
                f"{pool.free:,} hugepages of {format_bytes(page_bytes)} are reserved and free, and "
                f"this profile uses none: {format_bytes(idle)} of memory are lost to everybody",
                _use_them(page_bytes, plan.profile.tiers.l2.hugepages),
                "tiers.l2.hugepages",
            )


def _reserve(need: HugepageNeed) -> str:
    if need.is_forbidden:
        size = need.page_bytes >> 20
        amount = format_bytes(need.pages * need.page_bytes)
        return (
            f"raise the limit from outside: `hugetlb.{size}MB.max` of the cgroup, or in Kubernetes "
            f"`hugepages-{size}Mi` of {amount} among the resource limits"
        )
    file = _reserved_file(need.page_bytes, need.node)
    return f"`sudo kvtier tune PROFILE` or `echo {need.to_reserve} | sudo tee {file}`"


def _use_them(page_bytes: int, hugepages: str) -> str:
    name = _HUGEPAGE_NAMES.get(page_bytes)
    give_back = f"`echo 0 | sudo tee {_reserved_file(page_bytes)}`"
    if name is None:
        return give_back
    if name == hugepages:
        return f"give L2 a size, or give them back: {give_back}"
    return f"set `tiers.l2.hugepages: {name}`, or give them back: {give_back}"


def _reserved_file(page_bytes: int, node: int | None = None) -> str:
    """Where the kernel takes how many there shall be, on all nodes or one."""
    base = "/sys/kernel/mm" if node is None else f"/sys/devices/system/node/node{node}"
    return f"{base}/hugepages/hugepages-{page_bytes // 1024}kB/nr_hugepages"


def _units(plan: Plan) -> Iterator[Warning_]:
    for name in ("l1", "l2"):
        size = getattr(plan.profile.tiers, name).size
        if isinstance(size, Size) and size.bytes and not size.bytes % _GB and size.bytes % _GIB:
            count = size.bytes // _GB
            yield Warning_(
                "KVT-P014",
                f"{count}GB of memory are {size.bytes / _GIB:.1f} GiB: memory and hugepages come "
                "in powers of 1024",
                f"if {count} GiB were meant, write `{count}GiB`",
                f"tiers.{name}.size",
            )


def _system(plan: Plan) -> Iterator[Warning_]:
    """What is left to everybody else, beside what the profile reserves for it."""
    memory = plan.memories[-1]
    headroom = sum(item.bytes for item in memory.items if item.name == "headroom")
    left = headroom + memory.left_bytes
    if plan.l2.pages and left * 100 < memory.usable_bytes * _SYSTEM_PERCENT_MIN:
        yield Warning_(
            "KVT-P015",
            f"{format_bytes(left)} of {format_bytes(memory.usable_bytes)} are left to the system: "
            "loading the weights passes through its page cache, and other processes need some",
            "make `tiers.l2.size` smaller, or `host.reserve` larger",
            "tiers.l2.size",
        )


def _shared(plan: Plan) -> Iterator[Warning_]:
    for disk in plan.disks:
        if plan.ranks.nodes > 1 and disk.on.drive_kind is DriveKind.NETWORK:
            yield Warning_(
                "KVT-P016",
                f"`{disk.path}` is on a network file system that other nodes may see as well: a "
                "page store takes its directory for itself, and the second node is refused",
                "give each node a directory of its own, such as "
                f"`{disk.path}/${{HOSTNAME}}`, best on a local disk",
                "tiers.l3.directories",
            )


def _disk_pays(plan: Plan) -> Iterator[Warning_]:
    disk = plan.answers.rates.disk_read_bytes_per_s
    rows = plan.answers.break_even
    if disk is None or not rows or any(row.pays for row in rows):
        return
    best = min(rows, key=lambda row: row.bytes_per_s)
    yield Warning_(
        "KVT-P017",
        f"computing is quicker than reading: L3 gives {format_decimal(disk.value)}/s "
        f"({disk.source.value}: {disk.reason}), and pays from {format_decimal(best.bytes_per_s)}/s "
        f"on, for prompts of {best.context_tokens:,} tokens",
        "take faster disks or more of them; as it is, L3 helps restarts and a busy device only",
        "tiers.l3.directories",
    )


def _wear(plan: Plan) -> Iterator[Warning_]:
    """Only of a load that was told: few devices compute at their limit all day."""
    wear = plan.answers.wear
    if wear is not None and not wear.is_bound and wear.drive_writes_per_day > wear.rated_per_day:
        rated = int(wear.rated_per_day * wear.drive_bytes)
        yield Warning_(
            "KVT-P018",
            f"up to {format_decimal(wear.bytes_per_day)} may be written a day ({wear.reason}): "
            f"{wear.drive_writes_per_day:.3g} drive writes, of {wear.rated_per_day:g} that the "
            "drives are rated for",
            f"set `tiers.l3.write_bytes_per_day: {rated // _GB}GB`",
            "tiers.l3.write_bytes_per_day",
        )


def _pages(plan: Plan) -> Iterator[Warning_]:
    tokens = plan.profile.tiers.page_tokens
    if tokens > _PAGE_TOKENS_MAX:
        yield Warning_(
            "KVT-P019",
            f"pages of {tokens} tokens find less: on short chats 512 find 44.5 % of all tokens "
            "where 64 find 59.6 %",
            "set `tiers.page_tokens: 256` or less; large reads come from pages in a row, not from "
            "large pages",
            "tiers.page_tokens",
        )


def _l1(plan: Plan) -> Iterator[Warning_]:
    contexts = plan.l1.tokens / plan.max_context_tokens
    limited = isinstance(plan.profile.tiers.l1.max_tokens, int)
    if limited and contexts < 2 and "max_tokens" in plan.l1.reason:
        yield Warning_(
            "KVT-P023",
            f"`tiers.l1.max_tokens` leaves L1 {plan.l1.tokens:,} tokens: {contexts:.2g} requests "
            f"of {plan.max_context_tokens:,}; the others wait",
            "remove it: memory would do for more",
            "tiers.l1.max_tokens",
        )


def _nodes(plan: Plan) -> Iterator[Warning_]:
    """GPUs beside the NUMA nodes that the profile keeps kvtier to."""
    host = plan.profile.host
    for name, nodes in (("memory_nodes", host.memory_nodes), ("cpu_nodes", host.cpu_nodes)):
        gpus = plan.host.gpus[: plan.ranks.here] if plan.device == "cuda" else ()
        far = [i for i, gpu in enumerate(gpus) if gpu.numa_node not in (None, *nodes)]
        if nodes and far:
            yield Warning_(
                "KVT-P025",
                f"GPU{'s' * (len(far) > 1)} {', '.join(map(str, far))} are near other NUMA nodes "
                f"than {', '.join(map(str, nodes))}: every copy to them crosses sockets",
                f"set `host.{name}: all`; L2 lies next to each rank's GPU by itself",
                f"host.{name}",
            )
