"""What follows from the sizes: conversations that fit, start-up, when a disk pays, its wear."""

from __future__ import annotations

from dataclasses import dataclass

from kvtier_ops.plan.measured import Measured
from kvtier_ops.plan.question import Question
from kvtier_ops.plan.rates import kept_once, plan_rates, separate
from kvtier_ops.plan.types import (
    Answers,
    BreakEven,
    Conversations,
    DiskPlan,
    Figure,
    PageAdvice,
    Rates,
    TierPlan,
    Wear,
)
from kvtier_ops.profile.draft import Use, page_tokens
from kvtier_ops.units import format_bytes

CONTEXTS = (1024, 8192, 32768, 131072)
USES = (Use.CHAT, Use.MIXED, Use.DOCUMENTS)
_DAY_S = 86400


@dataclass(frozen=True)
class Sizes:
    """The tiers as they were planned."""

    l1: TierPlan
    l2: TierPlan
    l3: TierPlan
    disks: tuple[DiskPlan, ...]
    max_context_tokens: int


@dataclass(frozen=True)
class Load:
    """New tokens that a day brings: what has to be computed, and may be written."""

    tokens_per_s: float
    reason: str


def find_answers(
    question: Question, sizes: Sizes, measured: Measured, load: Load | None
) -> Answers:
    rates = plan_rates(question, sizes.disks, measured)
    return Answers(
        rates=rates,
        conversations=_conversations(question, sizes),
        page_advice=advise_page_tokens(question),
        arena_s=_arena(sizes, rates),
        break_even=_break_even(question, sizes, rates),
        wear=_wear(question, sizes, rates, load),
    )


def _contexts(most: int) -> list[int]:
    """Lengths to speak of: the usual ones that fit, and the longest."""
    return [*(n for n in CONTEXTS if n < most), most]


def _conversations(question: Question, sizes: Sizes) -> tuple[Conversations, ...]:
    def held(tier: TierPlan, tokens: int) -> int:
        return tier.pages // -(-tokens // question.page_tokens)

    return tuple(
        Conversations(n, held(sizes.l1, n), held(sizes.l2, n), held(sizes.l3, n))
        for n in _contexts(sizes.max_context_tokens)
    )


def _arena(sizes: Sizes, rates: Rates) -> Figure:
    rate = rates.arena_bytes_per_s
    reason = (
        f"{format_bytes(sizes.l2.bytes)} touched once, while the weights are loaded: {rate.reason}"
    )
    return Figure(sizes.l2.bytes / rate.value, rate.source, reason)


def _break_even(question: Question, sizes: Sizes, rates: Rates) -> tuple[BreakEven, ...]:
    """A disk pays if it reads a token's KV sooner than the token is computed."""
    disk = rates.disk_read_bytes_per_s
    if disk is None:
        return ()
    found = []
    for tokens in _contexts(sizes.max_context_tokens):
        needed = question.token_bytes * rates.prefill_at(tokens)
        found.append(BreakEven(tokens, needed, disk.value > needed))
    return tuple(found)


def _wear(question: Question, sizes: Sizes, rates: Rates, load: Load | None) -> Wear | None:
    """At most: every new page is written once, unless `write_bytes_per_day` stops it."""
    if not sizes.disks:
        return None
    tokens_per_s, reason = (
        (load.tokens_per_s, load.reason)
        if load is not None
        else (rates.prefill_at(CONTEXTS[1]), "prompts of 8,192 tokens computed all day, none found")
    )
    written = int(tokens_per_s * question.token_bytes * _DAY_S)
    l3 = question.profile.tiers.l3
    if l3.write_bytes_per_day is not None and l3.write_bytes_per_day.bytes < written:
        written, reason = l3.write_bytes_per_day.bytes, "`tiers.l3.write_bytes_per_day`"
    return Wear(written, reason, _drive_bytes(sizes), l3.drive_writes_per_day, load is None)


def _drive_bytes(sizes: Sizes) -> int:
    systems = separate(tuple(disk.on for disk in sizes.disks))
    known = sum(
        int(sum(drive.size_bytes for drive in system.drives) * kept_once(system))
        for system in systems
    )
    return known or max(1, sum(system.total_bytes for system in systems))


def advise_page_tokens(question: Question) -> tuple[PageAdvice, ...]:
    """A hit ends at a page: what lies beyond is computed again, half a page on average. Pages of
    a chain lie in a row on disk, so small pages do not make small reads."""
    chat, mixed, documents = (page_tokens(use, question.device) for use in USES)
    computed = (
        "on a CPU, computing the rest of a page is most of a hit's time"
        if question.on_cpu
        else "shared beginnings are short: on ShareGPT, pages of 64 / 128 / 256 tokens find 59.6 / "
        "57.4 / 53.0 % of all tokens"
    )
    size = format_bytes(question.token_bytes * documents)
    return (
        PageAdvice("short chats", chat, computed),
        PageAdvice("mixed", mixed, "between the two"),
        PageAdvice(
            "long documents",
            documents,
            f"fewer, larger transfers ({size} each); long prompts lose nothing up to 512 tokens",
        ),
    )
