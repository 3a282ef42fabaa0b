"""The plan as a table for a terminal of any width from 60 columns."""

from __future__ import annotations

from collections.abc import Iterator

from kvtier_ops.model.kv_shape import KvKind, KvLayers
from kvtier_ops.plan.types import Figure, HugepageNeed, MemoryPlan, Plan, TierPlan, Wear
from kvtier_ops.text import report_width, wrapped
from kvtier_ops.units import UNITS, format_bytes, format_decimal

_BAR_CELLS = 10


def render_plan(plan: Plan, width: int) -> str:
    """Plain text; no line is longer than `width` but for paths."""
    width = report_width(width)
    parts = [_model(plan, width), _tiers(plan, width)]
    parts += [_memory(memory, width) for memory in plan.memories]
    parts += [_conversations(plan), _rates(plan, width)]
    if plan.hugepages:
        parts.append(_hugepages(plan, width))
    if plan.disks:
        parts.append(_disks(plan, width))
    if plan.warnings:
        parts.append(_warnings(plan, width))
    return "\n\n".join(parts)


def _model(plan: Plan, width: int) -> str:
    lines: list[str] = []
    for name, text in model_rows(plan):
        lines += wrapped(f"{name:<9}", text, width)
    return "\n".join(lines)


def model_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    model, profile, ranks = plan.model, plan.profile, plan.ranks
    active = ""
    if model.active_parameters < model.parameters:
        active = f", {model.active_parameters:,} of them active"
    yield (
        "model",
        f"{plan.served_name} ({model.architecture}, {model.parameters:,} parameters{active})",
    )
    said = f" ({ranks.node_rank_from})" if ranks.node_rank_from else ""
    nodes = f" on node {ranks.node_rank} of {ranks.nodes}{said}" if ranks.nodes > 1 else ""
    yield (
        "device",
        f"{plan.device}, {ranks.here} rank{'s' * (ranks.here > 1)}{nodes}, {plan.threads} threads "
        f"each ({plan.threads_reason})",
    )
    yield "context", f"{plan.max_context_tokens:,} tokens ({plan.context_reason})"
    shape = " + ".join(describe_layers(group) for group in model.kv.groups)
    yield (
        "KV",
        (
            f"{model.kv.token_bytes:,} bytes a token, {tokens_per_gib(plan):,} tokens in a GiB: "
            f"{shape}, {model.kv.item_bytes} byte{'s' * (model.kv.item_bytes > 1)} each"
        ),
    )
    if plan.device_token_bytes != plan.token_bytes:
        yield (
            "",
            (
                f"on this node {plan.token_bytes:,} bytes a token, in L1 "
                f"{plan.device_token_bytes:,}: ranks keep copies of what they share"
            ),
        )
    yield "page", f"{profile.tiers.page_tokens} tokens, {plan.page_bytes:,} bytes"
    for advice in plan.answers.page_advice:
        yield "", f"{advice.page_tokens} for {advice.use}: {advice.reason}"


def tokens_per_gib(plan: Plan) -> int:
    return UNITS["GiB"] // plan.model.kv.token_bytes


def describe_layers(group: KvLayers) -> str:
    """`94 layers x 4 kv heads x (128 + 128)`, as one would compute it."""
    layers = f"{group.layers} layer{'s' * (group.layers > 1)}"
    if group.kind is KvKind.LATENT:
        return f"{layers} x a latent vector of {group.key_dim}"
    if group.kind is KvKind.STATE:
        return f"{layers} with a state of {group.state_numbers:,} instead"
    window = f" (of the last {group.window_tokens:,} tokens)" if group.window_tokens else ""
    dims = f"({group.key_dim} + {group.value_dim})"
    return f"{layers}{window} x {group.heads} kv heads x {dims}"


def _tiers(plan: Plan, width: int) -> str:
    lines = [f"{'tier':<5}{'size':>10}{'pages':>12}{'tokens':>14}  where and why"]
    for tier in plan.tiers:
        lines += wrapped(_tier_columns(tier), _tier_reason(tier), width)
    return "\n".join(lines)


def _tier_columns(tier: TierPlan) -> str:
    size = format_bytes(tier.bytes) if tier.pages else "-"
    return f"{tier.name.upper():<5}{size:>10}{tier.pages:>12,}{tier.tokens:>14,}  "


def _tier_reason(tier: TierPlan) -> str:
    return f"{tier.where}: {tier.reason}" if tier.pages else tier.reason


def _memory(memory: MemoryPlan, width: int) -> str:
    lines = [f"{memory.place}: {format_bytes(memory.usable_bytes)} to use"]
    items = [(item.name, item.bytes, item.reason) for item in memory.items]
    items.append(("left", memory.left_bytes, ""))
    for name, size, reason in items:
        prefix = f"  {name:<11}{format_bytes(size):>10}  "
        lines += wrapped(prefix + _bar(size, memory.usable_bytes), reason, width)
    return "\n".join(lines)


def _bar(part: int, whole: int) -> str:
    """Rounded to the nearest cell; what is there has one at least."""
    cells = (part * _BAR_CELLS * 2 + whole) // (2 * whole) if whole else 0
    shown = min(max(cells, 1 if part else 0), _BAR_CELLS)
    return f"{'#' * shown:<{_BAR_CELLS}}  "


def _conversations(plan: Plan) -> str:
    lines = [f"{'sequences of':<20}{'in L1':>10}{'in L2':>10}{'in L3':>10}"]
    for row in plan.answers.conversations:
        name = f"{row.tokens:,} tokens"
        lines.append(f"  {name:<18}{row.l1:>10,}{row.l2:>10,}{row.l3:>10,}")
    return "\n".join(lines)


def _rates(plan: Plan, width: int) -> str:
    answers = plan.answers
    prefill = answers.rates.prefill_tokens_per_s
    rows = [("prefill", f"{prefill.value:,.0f} tokens/s", prefill)]
    copies = answers.rates.l2_bytes_per_s
    rows.append(("L1 and L2", f"{format_decimal(copies.value)}/s", copies))
    if plan.l2.pages:
        rows.append(("L2's start", f"{answers.arena_s.value:,.1f} s", answers.arena_s))
    lines = ["how fast"]
    for name, shown, figure in rows:
        lines += wrapped(f"  {name:<11}{shown:>16}  ", sourced(figure), width)
    return "\n".join(lines)


def sourced(figure: Figure) -> str:
    return f"{figure.source.value}: {figure.reason}"


def _hugepages(plan: Plan, width: int) -> str:
    lines = ["hugepages"]
    for need in plan.hugepages:
        text = (
            f"{need.pages:,} of {format_bytes(need.page_bytes)} "
            f"({need.reserved:,} reserved, {need.free:,} free)"
        )
        lines += wrapped(f"  {place_of(need)}: ", text, width)
    return "\n".join(lines)


def place_of(need: HugepageNeed) -> str:
    if need.node is not None:
        return f"NUMA node {need.node}"
    return f"NUMA nodes {', '.join(map(str, need.among))}" if need.among else "any node"


def _disks(plan: Plan, width: int) -> str:
    lines = ["disk"]
    for disk in plan.disks:
        layers = " on ".join((disk.on.kind or "?", *disk.on.layers, disk.on.drive_kind.value))
        lines.append(f"  {disk.path}")
        lines += wrapped("    ", layers, width)
        room = (
            f"{format_bytes(disk.capacity_bytes)} of {format_bytes(disk.free_bytes)} beyond "
            f"the reserve of {plan.profile.tiers.l3.reserve}"
        )
        lines += wrapped("    ", room, width)
    rates = plan.answers.rates
    for name, figure in (
        ("reads", rates.disk_read_bytes_per_s),
        ("writes", rates.disk_write_bytes_per_s),
    ):
        if figure is not None:
            lines += wrapped(
                f"  {name:<8}", f"{format_decimal(figure.value)}/s, {sourced(figure)}", width
            )
    if plan.answers.break_even:
        lines.append("  pays, where it reads more than the device computes")
    for row in plan.answers.break_even:
        needed = f"{format_decimal(row.bytes_per_s)}/s"
        verdict = "pays" if row.pays else "does not pay"
        lines.append(f"    {row.context_tokens:>9,} tokens{needed:>12}  {verdict}")
    if plan.answers.wear is not None:
        lines += wrapped("  wear    ", _wear(plan.answers.wear), width)
    return "\n".join(lines)


def _wear(wear: Wear) -> str:
    return (
        f"at most {format_decimal(wear.bytes_per_day)} a day ({wear.reason}): "
        f"{wear.drive_writes_per_day:.3g} drive writes, rated for {wear.rated_per_day:g}"
    )


def _warnings(plan: Plan, width: int) -> str:
    lines = []
    for warning in plan.warnings:
        lines += wrapped(f"warning: {warning.id}: ", warning.what, width, hang=2)
        lines += wrapped("hint: ", warning.hint, width, hang=2)
    return "\n".join(lines)
