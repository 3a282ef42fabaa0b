"""`kvtier plan --target "200 users x 32k tokens"`: the tiers that it takes, cheapest first."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from kvtier_ops.errors import BadInput
from kvtier_ops.plan.arena import arena_bytes
from kvtier_ops.plan.disk import directory_bytes
from kvtier_ops.plan.load import WHOLE, as_number
from kvtier_ops.plan.types import MemoryPlan, Plan
from kvtier_ops.text import printable, wrapped
from kvtier_ops.units import UNITS, format_bytes, format_decimal

_PATTERN = re.compile(
    rf"\s*({WHOLE})\s*(?:users?|conversations?|sessions?)\s*(?:x|\*|of|with)\s*"
    rf"({WHOLE}(?:\.\d{{1,6}})?)\s*([kKmM]?)(?:i?)\s*(?:tokens?)?"
    rf"(?:\s*,\s*({WHOLE})\s*(?:active|running|at once|at a time))?\s*",
    re.ASCII,
)
_THOUSANDS = {"": 1, "k": 1024, "m": 1 << 20}
_COUNT_MAX = 1 << 40
_ACTIVE_SHARE = 10  # of the users, where the target does not say how many are active
# Orientation, in dollars a gigabyte: an enterprise drive, server memory, a GPU's share of its own.
_DISK_PRICE, _MEMORY_PRICE, _GPU_PRICE = 0.1, 5.0, 300.0


@dataclass(frozen=True)
class Target:
    """Users whose conversations are all kept, and how many of them are computed at once."""

    users: int
    tokens: int
    active: int
    says_active: bool

    @property
    def total_tokens(self) -> int:
        return self.users * self.tokens


@dataclass(frozen=True)
class Option:
    """One way to keep them; bytes of each tier on this node."""

    name: str
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    lacks: str  # what this host has too little of; empty: it fits
    pays: bool  # the disk reads quicker than the device computes, or there is none
    dollars: float


def parse_target(text: str) -> Target:
    """`200 users x 32k tokens`, `200 users x 32k tokens, 20 active`. Raises BadInput."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        shown = printable(text)[:60]
        raise BadInput(
            f"`{shown}` is not a target",
            'such as `--target "200 users x 32k tokens"`, or `..., 20 active`',
        )
    users = int(as_number(match[1]))
    tokens = int(as_number(match[2]) * _THOUSANDS[match[3].lower()])
    active = int(as_number(match[4])) if match[4] else max(1, users // _ACTIVE_SHARE)
    for count, what in ((users, "users"), (tokens, "tokens"), (active, "active users")):
        if not 0 < count < _COUNT_MAX:
            raise BadInput(f"a target has more than 0 {what}, and no astronomic number of them")
    if active > users:
        raise BadInput(f"{active} of {users} users cannot be active", "name fewer active ones")
    return Target(users, tokens, active, bool(match[4]))


def options(plan: Plan, target: Target) -> tuple[Option, ...]:
    """All on disk, all in host memory, all in device memory; cheapest first. L1 holds what is
    computed at once, whatever lies below it, and each tier holds what the one above does.

    Raises BadInput if the model cannot have conversations of that length.
    """
    most = plan.model.max_context_tokens
    if target.tokens > most:
        raise BadInput(
            f"conversations of {target.tokens:,} tokens are longer than the {most:,} that the "
            "model was trained for",
            "name shorter ones",
        )
    tokens = plan.profile.tiers.page_tokens
    each = -(-target.tokens // tokens)  # pages of one conversation
    every, active = each * target.users, each * target.active
    device_page = plan.device_token_bytes * tokens
    between = min(every, 2 * active)  # L2 above a disk: what runs, and as much that waits
    made = (
        _option(plan, "all on disk (L3)", active * device_page, between, every),
        _option(plan, "all in host memory (L2)", active * device_page, every, 0),
        _option(plan, "all in device memory (L1)", every * device_page, 0, 0),
    )
    return tuple(sorted(made, key=lambda option: option.dollars))


def _option(plan: Plan, name: str, l1_bytes: int, l2_pages: int, l3_pages: int) -> Option:
    hugepages = plan.profile.tiers.l2.hugepages
    l2_bytes = (
        arena_bytes(plan.page_bytes, plan.arena_parts, l2_pages, hugepages) if l2_pages else 0
    )
    count = max(1, len(plan.disks))  # directories, which share L3 equally
    l3_bytes = count * directory_bytes(-(-l3_pages // count), plan.page_bytes) * bool(l3_pages)
    pays = not l3_bytes or any(row.pays for row in plan.answers.break_even)
    sizes = (l1_bytes, l2_bytes, l3_bytes)
    dollars = sum(
        price * size / UNITS["GB"] for price, size in zip(_prices(plan), sizes, strict=True)
    )
    return Option(name, *sizes, _lacks(plan, *sizes), pays, dollars)


def _prices(plan: Plan) -> tuple[float, float, float]:
    """A GB of each tier."""
    return _MEMORY_PRICE if plan.device == "cpu" else _GPU_PRICE, _MEMORY_PRICE, _DISK_PRICE


def _lacks(plan: Plan, l1_bytes: int, l2_bytes: int, l3_bytes: int) -> str:
    """On a CPU, L1 and L2 are of one memory."""
    host, device = _room(plan.memories[-1]), _room(plan.memories[0])
    host += sum(need.free * need.page_bytes for need in plan.hugepages)
    on_host = l2_bytes + (l1_bytes if plan.device == "cpu" else 0)
    needs = [(on_host, host, "host memory")]
    if plan.device != "cpu":
        needs.append((l1_bytes, device, "device memory"))
    free = min((disk.free_bytes for disk in plan.disks), default=0) * len(plan.disks)
    needs.append((l3_bytes, free, "disk"))
    return ", ".join(
        f"{format_bytes(needed - has)} of {what}" for needed, has, what in needs if needed > has
    )


def _room(memory: MemoryPlan) -> int:
    """For the cache: what is neither weights nor work nor left to others."""
    taken = sum(item.bytes for item in memory.items if item.name not in ("L1", "L2"))
    return max(0, memory.usable_bytes - taken)


def target_as_json(plan: Plan, target: Target) -> dict[str, Any]:
    """For `--target ... --json`."""
    return {"target": asdict(target), "options": [asdict(each) for each in options(plan, target)]}


def render_target(plan: Plan, target: Target, width: int) -> str:
    """A paragraph for each option, and which to take."""
    total = target.total_tokens * plan.token_bytes
    said = "as you say" if target.says_active else f"one in {_ACTIVE_SHARE}, unless you say"
    lines = wrapped(
        "",
        f"{target.users:,} users x {target.tokens:,} tokens are {target.total_tokens:,} tokens, "
        f"{format_bytes(total)} of KV on this node; {target.active:,} are computed at once "
        f"({said})",
        width,
    )
    made = options(plan, target)
    best = next((each for each in made if not each.lacks and each.pays), None)
    for option in made:
        mark = "  <- the cheapest that does it here" if option is best else ""
        lines += ["", f"{option.name}: about ${option.dollars:,.0f}{mark}"]
        for tier, size in (
            ("l1", option.l1_bytes), ("l2", option.l2_bytes), ("l3", option.l3_bytes),
        ):  # fmt: skip
            lines.append(f"  tiers.{tier}.size  {_written(size):>10}")
        lines += [f"  this host lacks {option.lacks}"] if option.lacks else []
        lines += [] if option.pays else wrapped("  ", _slow(plan), width)
    if best is None:
        lines += ["", *wrapped("", _nothing(made), width)]
    prices = ", ".join(
        f"{tier} ${price:g}" for tier, price in zip(("L1", "L2", "L3"), _prices(plan), strict=True)
    )
    lines += ["", *wrapped("", f"Prices are for orientation: {prices} a GB.", width)]
    return "\n".join(lines)


def _written(size: int) -> str:
    """As the profile takes it; up to the next MiB, so that it is enough."""
    mib = -(-size // UNITS["MiB"])
    return f"{mib / 1024:.0f}GiB" if mib and mib % 1024 == 0 else f"{mib}MiB"


def _slow(plan: Plan) -> str:
    disk, rows = plan.answers.rates.disk_read_bytes_per_s, plan.answers.break_even
    if disk is None or not rows:
        return "it takes a disk: name one in `tiers.l3.directories`, and the plan says if it pays"
    least = min(row.bytes_per_s for row in rows)
    return (
        f"the disk reads {format_decimal(disk.value)}/s, and computing is as quick as "
        f"{format_decimal(least)}/s: it does not pay"
    )


def _nothing(made: tuple[Option, ...]) -> str:
    return f"Nothing here does it; the cheapest would be `{made[0].name}`."
