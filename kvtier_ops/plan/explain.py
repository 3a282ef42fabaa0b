"""`kvtier plan --explain FIELD`: where a number comes from, down to what was read."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kvtier_ops.errors import BadInput
from kvtier_ops.plan.arena import ARENA_ENTRY_BYTES, UNIT_BYTES
from kvtier_ops.plan.question import BLOCK_BYTES
from kvtier_ops.plan.report import describe_layers, sourced
from kvtier_ops.plan.types import MemoryItem, MemoryPlan, Plan, TierPlan
from kvtier_ops.text import printable, wrapped
from kvtier_ops.units import format_bytes, format_decimal


@dataclass(frozen=True)
class Reason:
    """One number: what it is, how it is computed, and the numbers that it is computed from."""

    name: str
    value: str
    formula: str
    because: tuple[str, ...] = ()  # names of further reasons


def explain(plan: Plan, name: str, width: int) -> str:
    """The chain of reasons of one name, as an indented list. Raises BadInput for a name that
    there is no reason for."""
    reasons = all_reasons(plan)
    if name not in reasons:
        raise _unknown(name, reasons)
    lines: list[str] = []
    _tell(reasons, name, 0, lines, width)
    return "\n".join(lines)


def _tell(
    reasons: Mapping[str, Reason], name: str, depth: int, lines: list[str], width: int
) -> None:
    """Each name once: what was told before is not told again."""
    reason = reasons[name]
    pad = "  " * depth
    told = any(line.lstrip().startswith(f"{name} = ") for line in lines)
    lines += wrapped(f"{pad}{name} = ", reason.value, width, hang=len(pad) + 4)
    if told:
        return
    lines += wrapped(f"{pad}    ", reason.formula, width)
    for other in reason.because:
        if other in reasons:
            _tell(reasons, other, depth + 1, lines, width)


def _unknown(name: str, reasons: Mapping[str, Reason]) -> BadInput:
    close = difflib.get_close_matches(name, reasons, 1, 0.5)
    ending = [each for each in reasons if each.rpartition(".")[2] == name]
    shown = printable(name)[:60]
    if close or ending:
        hint = f"did you mean `{(ending or close)[0]}`?"
    else:
        hint = f"there are reasons for {', '.join(reasons)}"
    return BadInput(f"the plan has no number named `{shown}`", hint)


def all_reasons(plan: Plan) -> dict[str, Reason]:
    """By name: a field of the profile, or one of the plan's own numbers."""
    makers: tuple[Callable[[Plan], list[Reason]], ...] = (_kv, _engine, _tiers, _memory, _answers)
    return {reason.name: reason for make in makers for reason in make(plan)}


def _kv(plan: Plan) -> list[Reason]:
    kv, tokens = plan.model.kv, plan.profile.tiers.page_tokens
    sums = " + ".join(f"{describe_layers(group)}" for group in kv.groups)
    found = [
        Reason(
            "kv_token_bytes",
            f"{kv.token_bytes:,} bytes",
            f"({sums}) x {kv.item_bytes} bytes a number; layers and heads are in the model's "
            "config.json, the bytes follow from `tiers.kv_dtype`",
        ),
        Reason(
            "token_bytes",
            f"{plan.token_bytes:,} bytes",
            _here(plan),
            ("kv_token_bytes",),
        ),
        Reason(
            "device_token_bytes",
            f"{plan.device_token_bytes:,} bytes",
            f"a token in L1: what each of {plan.ranks.here} ranks keeps, together"
            + (
                "" if plan.device_token_bytes == plan.token_bytes else "; heads are kept repeatedly"
            ),
            ("token_bytes",),
        ),
        Reason(
            "page_bytes",
            f"{plan.page_bytes:,} bytes",
            f"{tokens} tokens x {plan.token_bytes:,} bytes",
            ("tiers.page_tokens", "token_bytes"),
        ),
    ]
    advice = "; ".join(
        f"{each.page_tokens} for {each.use}: {each.reason}" for each in plan.answers.page_advice
    )
    found.append(Reason("tiers.page_tokens", f"{tokens} tokens", f"as the profile says. {advice}"))
    return found


def _here(plan: Plan) -> str:
    ranks = plan.ranks
    if ranks.nodes == 1:
        return "a token in L2 and L3: all of it, once"
    return f"a token in L2 and L3: what {ranks.here} of {ranks.total} ranks keep, once"


def _engine(plan: Plan) -> list[Reason]:
    return [
        Reason(
            "engine.threads",
            f"{plan.threads}",
            f"{plan.threads_reason}; the least of affinity, cgroup quota and `host.cpu_nodes`",
        ),
        Reason(
            "engine.max_context_tokens",
            f"{plan.max_context_tokens:,} tokens",
            f"{plan.context_reason}; the model was trained for {plan.model.max_context_tokens:,}, "
            f"L1 holds {plan.l1.tokens:,}, and one request must fit into L1",
            ("tiers.l1.size",),
        ),
        Reason(
            "engine.max_prompt_tokens",
            f"{plan.max_prompt_tokens:,} tokens",
            "as the profile says, or the context less one token of an answer",
            ("engine.max_context_tokens",),
        ),
    ]


def _tiers(plan: Plan) -> list[Reason]:
    tokens = plan.profile.tiers.page_tokens
    device_page = plan.device_token_bytes * tokens
    place = "host memory" if plan.device == "cpu" else "GPU memory"
    l3_slot = BLOCK_BYTES + -(-plan.page_bytes // BLOCK_BYTES) * BLOCK_BYTES + 256
    return [
        _tier(
            plan.l1,
            f"{plan.l1.reason}; {plan.l1.pages:,} pages x {device_page:,} bytes, rounded down to "
            "whole pages",
            (f"memory.{place}", "device_token_bytes"),
        ),
        _tier(plan.l2, _arena(plan), ("memory.host memory", "page_bytes")),
        _tier(
            plan.l3,
            f"{plan.l3.reason}; a page takes {l3_slot:,} bytes: its payload in blocks of "
            f"{BLOCK_BYTES:,}, a header block, and its records in the journal",
            ("page_bytes",),
        ),
    ]


def _tier(tier: TierPlan, formula: str, because: tuple[str, ...]) -> Reason:
    name = f"tiers.{tier.name}.size"
    if not tier.pages:
        return Reason(name, "no such tier", tier.reason)
    value = f"{tier.bytes:,} bytes ({format_bytes(tier.bytes)}), {tier.tokens:,} tokens"
    return Reason(name, value, formula, because)


def _arena(plan: Plan) -> str:
    hugepages = plan.profile.tiers.l2.hugepages
    return (
        f"{plan.l2.reason}; {plan.l2.pages:,} slots of {plan.page_bytes:,} bytes in parts of whole "
        f"{BLOCK_BYTES:,} bytes, a table of {ARENA_ENTRY_BYTES} bytes a slot, each rounded up to "
        f"{format_bytes(UNIT_BYTES[hugepages])} (`tiers.l2.hugepages: {hugepages}`)"
    )


def _memory(plan: Plan) -> list[Reason]:
    found = []
    for number, memory in enumerate(plan.memories):
        is_host = number == len(plan.memories) - 1
        found.append(_place(plan, memory, "host memory" if is_host else "GPU memory"))
        found += [_item(item) for item in memory.items if item.name not in ("L1", "L2")]
    return found


def _place(plan: Plan, memory: MemoryPlan, name: str) -> Reason:
    items = [item for item in memory.items if item.name not in ("L1", "L2")]
    taken = " - ".join(f"{item.name} {format_bytes(item.bytes)}" for item in items)
    left = memory.usable_bytes - sum(item.bytes for item in items)
    host = plan.host
    source = (
        f"MemAvailable {format_bytes(host.memory_available_bytes)}"
        if name == "host memory"
        else f"`engine.gpu_memory_fraction` {plan.profile.engine.gpu_memory_fraction:g} of what is "
        f"free on each of {plan.ranks.here} GPUs"
    )
    nodes = plan.profile.host.memory_nodes
    if name == "host memory" and nodes:
        source += f", of which NUMA nodes {', '.join(map(str, nodes))} have their share"
    if name == "host memory" and host.cgroup_limit_bytes is not None:
        source += (
            f", the cgroup's limit {format_bytes(host.cgroup_limit_bytes)} less "
            f"{format_bytes(host.cgroup_used_bytes)} in use"
        )
    return Reason(
        f"memory.{name}",
        f"{format_bytes(memory.usable_bytes)} to use in {memory.place}",
        f"{source}; for the cache {format_bytes(memory.usable_bytes)} - {taken} = "
        f"{format_bytes(max(0, left))}",
        tuple(f"memory.{item.name}" for item in items),
    )


def _item(item: MemoryItem) -> Reason:
    return Reason(
        f"memory.{item.name}", f"{item.bytes:,} bytes ({format_bytes(item.bytes)})", item.reason
    )


def _answers(plan: Plan) -> list[Reason]:
    answers, rates = plan.answers, plan.answers.rates
    found = [
        Reason(
            "prefill",
            f"{rates.prefill_tokens_per_s.value:,.0f} tokens/s at an empty context",
            f"{sourced(rates.prefill_tokens_per_s)}; divided by 1 + {rates.context_slowdown:.3g} x "
            "n / 2 for a prompt of n tokens: attention's share grows with the context",
        ),
        Reason(
            "arena_start",
            f"{answers.arena_s.value:,.1f} s",
            f"{sourced(answers.arena_s)}; {format_decimal(rates.arena_bytes_per_s.value)}/s",
            ("tiers.l2.size",),
        ),
    ]
    if rates.disk_read_bytes_per_s is not None:
        rows = "; ".join(
            f"{row.context_tokens:,} tokens: {format_decimal(row.bytes_per_s)}/s, "
            f"{'pays' if row.pays else 'does not pay'}"
            for row in answers.break_even
        )
        found.append(
            Reason(
                "break_even",
                f"the disk reads {format_decimal(rates.disk_read_bytes_per_s.value)}/s "
                f"({sourced(rates.disk_read_bytes_per_s)})",
                f"a disk pays if it reads more than KV bytes of a token x prefill tokens/s. {rows}",
                ("token_bytes", "prefill"),
            )
        )
    if answers.wear is not None:
        wear = answers.wear
        found.append(
            Reason(
                "wear",
                f"{wear.drive_writes_per_day:.3g} drive writes a day of {wear.rated_per_day:g}",
                f"at most {format_decimal(wear.bytes_per_day)} a day ({wear.reason}) on drives of "
                f"{format_decimal(wear.drive_bytes)}",
                ("token_bytes", "prefill"),
            )
        )
    found += [
        Reason(
            "hugepages" if need.node is None else f"hugepages.node{need.node}",
            f"{need.pages:,} pages of {format_bytes(need.page_bytes)}",
            f"L2's bytes there / {need.page_bytes:,}; {need.reserved:,} are reserved, "
            f"{need.free:,} of them free",
            ("tiers.l2.size",),
        )
        for need in plan.hugepages
    ]
    return found
