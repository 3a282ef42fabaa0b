"""The plan as a table for a terminal of any width from 60 columns."""

from __future__ import annotations

import textwrap

from kvtier_ops.plan.types import MemoryPlan, Plan, TierPlan
from kvtier_ops.units import format_bytes

_BAR_CELLS = 40
_WIDTH_MIN, _WIDTH_MAX = 60, 120


def render_plan(plan: Plan, width: int) -> str:
    """Plain text; no line is longer than `width` but for paths."""
    width = max(_WIDTH_MIN, min(width, _WIDTH_MAX))
    parts = [_model(plan), _tiers(plan, width)]
    parts += [_memory(memory, width) for memory in plan.memories]
    if plan.disks:
        parts.append(_disks(plan))
    if plan.warnings:
        parts.append(_warnings(plan, width))
    return "\n\n".join(parts)


def _model(plan: Plan) -> str:
    model, profile = plan.model, plan.profile
    ranks = profile.engine.tensor_parallel
    rows = [
        ("model", f"{plan.served_name} ({model.architecture}, {model.parameters:,} parameters)"),
        ("device", f"{plan.device}, {ranks} rank{'s' * (ranks > 1)}, {plan.threads} threads each "
         f"({plan.threads_reason})"),
        ("context", f"{plan.max_context_tokens:,} tokens ({plan.context_reason})"),
        ("KV", f"{model.kv.token_bytes:,} bytes a token"),
        ("page", f"{profile.tiers.page_tokens} tokens, {plan.page_bytes:,} bytes"),
    ]  # fmt: skip
    return "\n".join(f"{name:<9}{text}" for name, text in rows)


def _tiers(plan: Plan, width: int) -> str:
    lines = [f"{'tier':<5}{'size':>10}{'pages':>10}{'tokens':>13}  where and why"]
    for tier in plan.tiers:
        lines += _wrapped(_tier_columns(tier), _tier_reason(tier), width)
    return "\n".join(lines)


def _tier_columns(tier: TierPlan) -> str:
    size = format_bytes(tier.bytes) if tier.pages else "-"
    return f"{tier.name.upper():<5}{size:>10}{tier.pages:>10,}{tier.tokens:>13,}  "


def _tier_reason(tier: TierPlan) -> str:
    return f"{tier.where}: {tier.reason}" if tier.pages else tier.reason


def _memory(memory: MemoryPlan, width: int) -> str:
    lines = [f"{memory.place}: {format_bytes(memory.usable_bytes)} to use"]
    items = [(item.name, item.bytes, item.reason) for item in memory.items]
    items.append(("left", memory.left_bytes, ""))
    for name, size, reason in items:
        prefix = f"  {name:<11}{format_bytes(size):>10}  "
        lines += _wrapped(prefix + _bar(size, memory.usable_bytes), reason, width)
    return "\n".join(lines)


def _bar(part: int, whole: int) -> str:
    cells = -(-part * _BAR_CELLS // whole) if whole else 0
    shown = min(cells, _BAR_CELLS) // 4
    return f"{'#' * shown:<{_BAR_CELLS // 4}}  "


def _disks(plan: Plan) -> str:
    lines = ["disk"]
    for disk in plan.disks:
        kind = f" ({disk.file_system})" if disk.file_system else ""
        lines.append(f"  {disk.path}{kind}")
        lines.append(
            f"    {format_bytes(disk.capacity_bytes)} of {format_bytes(disk.free_bytes)} beyond "
            f"the reserve of {plan.profile.tiers.l3.reserve}"
        )
    return "\n".join(lines)


def _warnings(plan: Plan, width: int) -> str:
    lines = []
    for warning in plan.warnings:
        lines += _wrapped(f"warning: {warning.id}: ", warning.what, width, hang=2)
        lines += _wrapped("hint: ", warning.hint, width, hang=2)
    return "\n".join(lines)


def _wrapped(prefix: str, text: str, width: int, hang: int | None = None) -> list[str]:
    """`prefix` and then `text`, wrapped below its own beginning or below column `hang`."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=prefix,
        subsequent_indent=" " * (len(prefix) if hang is None else hang),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [prefix.rstrip()]
