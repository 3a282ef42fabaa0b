"""How much memory weights, work, L1 and L2 take, and whether it is there."""

from __future__ import annotations

from dataclasses import dataclass

from kvtier_ops.errors import BadInput, PlanDoesNotFit
from kvtier_ops.host import Host
from kvtier_ops.model.facts import ModelFacts
from kvtier_ops.plan.types import MemoryItem, MemoryPlan, TierPlan
from kvtier_ops.profile.schema import Profile
from kvtier_ops.units import AUTO, UNITS, Amount, Share, Size, format_bytes

MIB = UNITS["MiB"]

# Resident memory of one process with torch loaded, before weights (measured: 220 to 265 MiB).
PROCESS_BYTES = 300 * MIB
HEADROOM_BYTES_MIN = 256 * MIB
HEADROOM_PERCENT = 5
GPU_USABLE_PERCENT = 90  # the rest is CUDA's context, libraries and fragmentation

# As csrc/store lays the arena out: parts of whole blocks, a table entry for each slot.
BLOCK_BYTES = 4096
ARENA_ENTRY_BYTES = 64
HUGEPAGE_BYTES = {"none": 2 * MIB, "transparent": 2 * MIB, "2MiB": 2 * MIB, "1GiB": 1024 * MIB}


@dataclass(frozen=True)
class Cache:
    """L1 and L2, and the memories they were taken from."""

    l1: TierPlan
    l2: TierPlan
    memories: tuple[MemoryPlan, ...]


@dataclass(frozen=True)
class _Question:
    """What every step needs to know."""

    profile: Profile
    model: ModelFacts
    device: str

    @property
    def ranks(self) -> int:
        return self.profile.engine.tensor_parallel

    @property
    def page_tokens(self) -> int:
        return self.profile.tiers.page_tokens

    @property
    def page_bytes(self) -> int:
        return self.model.kv.token_bytes * self.page_tokens

    @property
    def on_host(self) -> bool:
        return self.device == "cpu"

    @property
    def is_hugetlb(self) -> bool:
        return self.profile.tiers.l2.hugepages in ("2MiB", "1GiB")


def round_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def plan_memory(profile: Profile, host: Host, model: ModelFacts, device: str) -> Cache:
    """Sizes L1 and L2. Raises PlanDoesNotFit naming the field and the largest that fits."""
    question = _Question(profile, model, device)
    host_items = _processes(question, host)
    if question.on_host:
        host_items = _weights_and_work(question) + host_items
    host_memory = MemoryPlan("host memory", host.usable_memory_bytes, host_items)
    _check_base(host_memory, host)
    if question.on_host:
        l1 = _plan_l1(question, host_memory, _l2_claim(question, host))
        host_memory = _with(host_memory, l1)
        memories: tuple[MemoryPlan, ...] = ()
    else:
        gpu_memory = _gpu_memory(question, host)
        l1 = _plan_l1(question, gpu_memory, 0)
        memories = (_with(gpu_memory, l1),)
    l2 = _plan_l2(question, host, host_memory.left_bytes)
    if not question.is_hugetlb and l2.bytes:
        host_memory = _with(host_memory, l2)
    return Cache(l1, l2, (*memories, host_memory))


def _with(memory: MemoryPlan, tier: TierPlan) -> MemoryPlan:
    item = MemoryItem(tier.name.upper(), tier.bytes, tier.reason)
    return MemoryPlan(memory.place, memory.usable_bytes, (*memory.items, item))


def _weights_and_work(question: _Question) -> tuple[MemoryItem, ...]:
    model, engine = question.model, question.profile.engine
    # Residual, q, k, v, attention output and their copies; gate, up and their product; in fp32.
    per_token = 4 * (8 * model.hidden + 4 * model.ffn)
    # Logits, probabilities and their sorted order.
    logits = engine.max_running * model.vocab * 4 * 3
    work = engine.max_step_tokens * per_token * question.ranks + logits
    dtype = question.profile.model.dtype
    return (
        MemoryItem("weights", model.weight_bytes, f"{model.parameters:,} parameters as {dtype}"),
        MemoryItem(
            "work",
            work,
            f"activations of {engine.max_step_tokens} tokens, logits of {engine.max_running} rows",
        ),
    )


def _processes(question: _Question, host: Host) -> tuple[MemoryItem, ...]:
    count = 1 + question.ranks
    headroom = max(HEADROOM_BYTES_MIN, host.usable_memory_bytes * HEADROOM_PERCENT // 100)
    return (
        MemoryItem(
            "processes",
            count * PROCESS_BYTES,
            f"server and {question.ranks} rank{'s' * (question.ranks > 1)}, "
            f"{format_bytes(PROCESS_BYTES)} each",
        ),
        MemoryItem("headroom", headroom, f"{HEADROOM_PERCENT}% is left to the system"),
    )


def _check_base(memory: MemoryPlan, host: Host) -> None:
    if memory.left_bytes >= 0:
        return
    limit = " (the cgroup's limit)" if host.cgroup_limit_bytes is not None else ""
    needed = memory.usable_bytes - memory.left_bytes
    raise PlanDoesNotFit(
        f"needs {format_bytes(needed)} before any cache, and {memory.place} has "
        f"{format_bytes(memory.usable_bytes)} to use{limit}",
        "free memory, take a smaller model, or a smaller `engine.max_step_tokens`",
        field="model.path",
    )


def _gpu_memory(question: _Question, host: Host) -> MemoryPlan:
    if len(host.gpus) < question.ranks:
        raise PlanDoesNotFit(
            f"{question.ranks} ranks need as many GPUs; {len(host.gpus)} are visible",
            "set `engine.device: cpu`, or install `kvtier[cuda]` and check `nvidia-smi`",
            field="engine.device" if not host.gpus else "engine.tensor_parallel",
        )
    free = min(gpu.free_bytes for gpu in host.gpus[: question.ranks])
    usable = question.ranks * free * GPU_USABLE_PERCENT // 100
    memory = MemoryPlan("GPU memory", usable, _weights_and_work(question))
    _check_base(memory, host)
    return memory


def _l2_claim(question: _Question, host: Host) -> int:
    """What an L2 with a size of its own takes from the memory that L1 shares with it."""
    size = question.profile.tiers.l2.size
    if question.is_hugetlb or size is AUTO:
        return 0
    return _asked(size, host.usable_memory_bytes)


def _asked(amount: Amount, total_bytes: int) -> int:
    assert isinstance(amount, Size | Share)
    return amount.bytes if isinstance(amount, Size) else amount.of(total_bytes)


def _plan_l1(question: _Question, memory: MemoryPlan, claimed: int) -> TierPlan:
    """L1 out of what `memory` has left; `claimed` of that is L2's."""
    amount, left = question.profile.tiers.l1.size, memory.left_bytes
    if amount is AUTO:
        share = max(0, min(left // 4, left - claimed)) if question.on_host else left
        part = "a quarter of the" if question.on_host else "all"
        reason = f"auto: {part} {format_bytes(left)} that weights and work leave"
    else:
        share = _asked(amount, memory.usable_bytes)
        reason = (
            "as the profile says" if isinstance(amount, Size) else f"{amount} of {memory.place}"
        )
    if share > left:
        raise _too_large("tiers.l1.size", share, left, memory.place, question.page_bytes)
    pages = share // question.page_bytes
    if pages == 0:
        raise PlanDoesNotFit(
            f"{format_bytes(share)} holds no page: a page of {question.page_tokens} tokens takes "
            f"{format_bytes(question.page_bytes)}",
            "give L1 more memory, or set a smaller `tiers.page_tokens`",
            field="tiers.l1.size",
        )
    taken = pages * question.page_bytes
    return TierPlan("l1", memory.place, taken, pages, pages * question.page_tokens, reason)


def _plan_l2(question: _Question, host: Host, left: int) -> TierPlan:
    amount, hugepages = question.profile.tiers.l2.size, question.profile.tiers.l2.hugepages
    place = f"hugepages of {hugepages}" if question.is_hugetlb else "host memory"
    if question.is_hugetlb:
        size = HUGEPAGE_BYTES[hugepages]
        left = host.hugepages_free(size) * size
    if amount is AUTO:
        share = left if question.is_hugetlb else left // 2
        part = "all" if question.is_hugetlb else "half of the"
        reason = f"auto: {part} {format_bytes(left)} that is left"
    else:
        total = left if question.is_hugetlb else host.usable_memory_bytes
        share = _asked(amount, total)
        reason = "as the profile says" if isinstance(amount, Size) else f"{amount} of {place}"
    if share > left:
        raise (
            _hugepages_missing(question, share, left)
            if question.is_hugetlb
            else _too_large("tiers.l2.size", share, left, place, question.page_bytes)
        )
    pages = _arena_pages(question, share)
    if pages == 0:
        if isinstance(amount, Size) and amount.bytes:
            raise PlanDoesNotFit(
                f"`{amount}` holds no page: a page takes {format_bytes(question.page_bytes)}",
                "give L2 more memory, or `0GiB` for no L2",
                field="tiers.l2.size",
            )
        return TierPlan("l2", "-", 0, 0, 0, "off")
    taken = arena_bytes(question.page_bytes, question.ranks, pages, hugepages)
    return TierPlan("l2", place, taken, pages, pages * question.page_tokens, reason)


def arena_bytes(page_bytes: int, ranks: int, pages: int, hugepages: str) -> int:
    """Bytes that the native arena maps: a table, and each rank's part of every slot."""
    unit = HUGEPAGE_BYTES[hugepages]
    stride = round_up(page_bytes // ranks, BLOCK_BYTES)
    table = round_up(BLOCK_BYTES + pages * ARENA_ENTRY_BYTES, unit)
    return table + ranks * round_up(pages * stride, unit)


def _arena_pages(question: _Question, share: int) -> int:
    """The most slots whose arena is not larger than `share`: it grows with every slot."""
    hugepages = question.profile.tiers.l2.hugepages
    low, high = 0, share // question.page_bytes
    while low < high:
        middle = (low + high + 1) // 2
        if arena_bytes(question.page_bytes, question.ranks, middle, hugepages) <= share:
            low = middle
        else:
            high = middle - 1
    return low


def _too_large(field: str, asked: int, left: int, place: str, page_bytes: int) -> PlanDoesNotFit:
    largest = max(0, left) // MIB
    what = (
        f"asks for {format_bytes(asked)}, and {place} has {format_bytes(max(0, left))} left for it"
    )
    if largest * MIB >= page_bytes:
        return PlanDoesNotFit(what, f"the largest that fits is `{largest}MiB`", field=field)
    return PlanDoesNotFit(what, "make the other tiers smaller, or free memory", field=field)


def _hugepages_missing(question: _Question, asked: int, left: int) -> PlanDoesNotFit:
    hugepages = question.profile.tiers.l2.hugepages
    size = HUGEPAGE_BYTES[hugepages]
    needed, free = round_up(asked, size) // size, left // size
    folder = f"/sys/kernel/mm/hugepages/hugepages-{size // 1024}kB/nr_hugepages"
    return PlanDoesNotFit(
        f"asks for {format_bytes(asked)}: {needed} hugepages of {hugepages}, and {free} are free",
        f"`echo {needed} | sudo tee {folder}`, or `tiers.l2.hugepages: transparent`",
        field="tiers.l2.size",
    )


def check_ranks(profile: Profile, model: ModelFacts) -> None:
    """Raises BadInput unless every rank gets the same number of kv heads."""
    ranks, heads = profile.engine.tensor_parallel, model.kv.groups[0].heads
    if heads % ranks:
        fitting = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
        raise BadInput(
            f"{ranks} ranks cannot share {heads} kv heads equally",
            f"this model takes {fitting}",
            field="engine.tensor_parallel",
        )
