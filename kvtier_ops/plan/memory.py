"""How much memory weights, work, L1 and L2 take, and whether it is there."""

from __future__ import annotations

from dataclasses import dataclass

from kvtier_ops.errors import PlanDoesNotFit
from kvtier_ops.plan.arena import ArenaPlan, asked_share, plan_arena
from kvtier_ops.plan.places import Room, host_room, shortage
from kvtier_ops.plan.question import Question
from kvtier_ops.plan.types import MemoryItem, MemoryPlan, TierPlan
from kvtier_ops.units import AUTO, UNITS, Amount, Share, Size, format_bytes

MIB = UNITS["MiB"]

# Resident memory of one process with torch loaded, before weights (measured: 220 to 265 MiB).
PROCESS_BYTES = 300 * MIB
# The same on a GPU: CUDA's libraries and its context's share of host memory (assumed).
GPU_PROCESS_BYTES = 2048 * MIB
HEADROOM_BYTES_MIN = 256 * MIB
HEADROOM_PERCENT = 5


@dataclass(frozen=True)
class Cache:
    """L1 and L2, and the memories they were taken from."""

    l1: TierPlan
    l2: TierPlan
    arena: ArenaPlan
    memories: tuple[MemoryPlan, ...]


def plan_memory(question: Question) -> Cache:
    """Sizes L1 and L2. Raises PlanDoesNotFit naming the field and the largest that fits."""
    room = host_room(question)
    items: tuple[MemoryItem, ...] = (_processes(question), _headroom(question, room))
    if question.on_cpu:
        items = (*_weights_and_work(question), *items)
    host_memory = MemoryPlan(room.place, room.usable_bytes, items)
    _check_base(host_memory, room)
    if question.on_cpu:
        l1 = _plan_l1(question, host_memory, _l2_claim(question, room))
        host_memory = _with(host_memory, l1, l1.bytes)
        memories: tuple[MemoryPlan, ...] = ()
    else:
        gpu_memory = _gpu_memory(question)
        l1 = _plan_l1(question, gpu_memory, 0)
        memories = (_with(gpu_memory, l1, l1.bytes),)
    l2, arena = plan_arena(question, room, host_memory.left_bytes)
    host_memory = _with(host_memory, l2, arena.from_memory_bytes)
    return Cache(l1, l2, arena, (*memories, host_memory))


def _with(memory: MemoryPlan, tier: TierPlan, taken_bytes: int) -> MemoryPlan:
    if not taken_bytes:
        return memory
    item = MemoryItem(tier.name.upper(), taken_bytes, tier.reason)
    return MemoryPlan(memory.place, memory.usable_bytes, (*memory.items, item))


def _weights_and_work(question: Question) -> tuple[MemoryItem, ...]:
    """Of this node: its ranks' share of the weights, and what a step computes with."""
    model, engine, ranks = question.model, question.profile.engine, question.ranks
    # Residual, q, k, v, attention output and their copies; gate, up and their product; in fp32.
    per_token = 4 * (8 * model.hidden + 4 * model.ffn)
    # Logits, probabilities and their sorted order.
    logits = engine.max_running * model.vocab * 4 * 3
    work = engine.max_step_tokens * per_token * ranks.here + logits
    weights = -(-model.weight_bytes * ranks.here // ranks.total)
    shared = f", {ranks.here} of {ranks.total} ranks' share" if ranks.nodes > 1 else ""
    items = [
        MemoryItem("weights", weights, model.weights_reason + shared),
        MemoryItem(
            "work",
            work,
            f"activations of {engine.max_step_tokens} tokens, logits of {engine.max_running} rows",
        ),
    ]
    if model.kv.state_bytes:
        states = engine.max_running * model.kv.state_bytes
        reason = f"{engine.max_running} sequences, {format_bytes(model.kv.state_bytes)} each"
        items.append(MemoryItem("states", states, reason))
    return tuple(items)


def _processes(question: Question) -> MemoryItem:
    ranks = question.ranks.here
    each = PROCESS_BYTES if question.on_cpu else GPU_PROCESS_BYTES
    counted = f"{ranks} rank{'s' * (ranks > 1)}"
    reason = f"server and {counted}, {format_bytes(each)} each"
    if not question.on_cpu:
        reason = f"server of {format_bytes(PROCESS_BYTES)}, {counted} of {format_bytes(each)}"
    return MemoryItem("processes", PROCESS_BYTES + ranks * each, reason)


def _headroom(question: Question, room: Room) -> MemoryItem:
    asked = question.profile.host.reserve
    if asked is AUTO:
        share = room.usable_bytes * HEADROOM_PERCENT // 100
        size = max(HEADROOM_BYTES_MIN, share)
        reason = f"auto: {HEADROOM_PERCENT}% is left to the system"
    else:
        size = asked_bytes(asked, room.usable_bytes)
        reason = "as `host.reserve` says: left to the system"
    return MemoryItem("headroom", size, reason)


def _check_base(memory: MemoryPlan, room: Room) -> None:
    if memory.left_bytes >= 0:
        return
    needed = memory.usable_bytes - memory.left_bytes
    headroom = sum(item.bytes for item in memory.items if item.name == "headroom")
    is_reserve = needed - headroom <= memory.usable_bytes and headroom
    parts = ", ".join(f"{item.name} {format_bytes(item.bytes)}" for item in memory.items)
    hint = "free memory, take a smaller model, or a smaller `engine.max_step_tokens`"
    if is_reserve:
        hint = "leave less to the system, or free memory"
    elif memory.place == "GPU memory":
        hint = "more ranks on more GPUs, a smaller model, or a larger `engine.gpu_memory_fraction`"
    if room.limit:
        missing = -(memory.left_bytes // MIB)
        hint = f"raise the cgroup's memory limit by {missing:,} MiB or more, {hint}"
    raise PlanDoesNotFit(
        f"{format_bytes(needed)} are needed before any cache ({parts}), and {memory.place} has "
        f"{format_bytes(memory.usable_bytes)} to use{room.limit}",
        hint,
        field="host.reserve" if is_reserve else "model.path",
        id="KVT-P201",
    )


def _gpu_memory(question: Question) -> MemoryPlan:
    gpus, ranks = question.host.gpus, question.ranks.here
    if len(gpus) < ranks:
        visible = f"{len(gpus)} {'is' if len(gpus) == 1 else 'are'} visible"
        raise PlanDoesNotFit(
            f"{ranks} ranks on this node need as many GPUs; {visible}",
            "set `engine.device: cpu`, or install `kvtier[cuda]` and check `nvidia-smi`"
            if not gpus
            else "set a smaller `engine.tensor_parallel`, or more `cluster.nodes`",
            field="engine.device" if not gpus else "engine.tensor_parallel",
            id="KVT-P202",
        )
    free = min(gpu.free_bytes for gpu in gpus[:ranks])
    usable = int(ranks * free * question.profile.engine.gpu_memory_fraction)
    memory = MemoryPlan("GPU memory", usable, _weights_and_work(question))
    _check_base(memory, Room("GPU memory", usable))
    return memory


def _l2_claim(question: Question, room: Room) -> int:
    """What an L2 with a size of its own takes from the memory that L1 shares with it."""
    l2 = question.profile.tiers.l2
    if l2.size is AUTO:
        return 0
    asked, _ = asked_share(question, room, 0)
    return max(0, asked - room.hugepage_bytes(l2.hugepages))


def asked_bytes(amount: Amount, total_bytes: int) -> int:
    """Of a size or a percentage."""
    assert isinstance(amount, Size | Share)
    return amount.bytes if isinstance(amount, Size) else amount.of(total_bytes)


def _plan_l1(question: Question, memory: MemoryPlan, claimed: int) -> TierPlan:
    """L1 out of what `memory` has left; `claimed` of that is L2's."""
    amount, left = question.profile.tiers.l1.size, memory.left_bytes
    if amount is AUTO:
        if claimed and claimed > left - question.device_page_bytes:
            raise _too_large("tiers.l2.size", claimed, memory, question.page_bytes)
        share = min(left // 4, left - claimed) if question.on_cpu else left
        part = "a quarter of the" if question.on_cpu else "all"
        reason = f"auto: {part} {format_bytes(left)} that weights and work leave"
    else:
        share = asked_bytes(amount, memory.usable_bytes)
        reason = (
            "as the profile says" if isinstance(amount, Size) else f"{amount} of {memory.place}"
        )
    page_bytes = question.device_page_bytes
    if share > left:
        raise _too_large("tiers.l1.size", share, memory, page_bytes)
    pages, most = share // page_bytes, question.profile.tiers.l1.max_tokens
    if isinstance(most, int) and most // question.page_tokens < pages:
        pages = most // question.page_tokens
        reason = f"`tiers.l1.max_tokens` {most:,}; memory would do for more"
    if pages == 0:
        raise PlanDoesNotFit(
            f"{format_bytes(share)} holds no page: a page of {question.page_tokens} tokens takes "
            f"{format_bytes(page_bytes)}",
            "give L1 more memory, or set a smaller `tiers.page_tokens`",
            field="tiers.l1.size",
            id="KVT-P203",
        )
    return TierPlan(
        "l1", memory.place, pages * page_bytes, pages, pages * question.page_tokens, reason
    )


def _too_large(field: str, asked: int, memory: MemoryPlan, page_bytes: int) -> PlanDoesNotFit:
    what, hint = shortage(asked, memory.place, memory.left_bytes, page_bytes)
    return PlanDoesNotFit(what, hint, field=field, id="KVT-P203")
