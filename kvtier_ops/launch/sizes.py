"""Tiers that no longer have the plan's size: `kvtier cache resize` and `detach` change them until
the engine ends."""

from __future__ import annotations

from typing import Any

from kvtier_ops.errors import Refused
from kvtier_ops.plan import Plan

L3_TOLERANCE = 0.03  # a directory holds whole slots and a journal: so much less is no other size


def pages_by_tier(said: dict[str, Any]) -> dict[str, int]:
    """What GET /admin/cache says that each tier has; 0: it is detached, or out of use. Raises
    Refused for an answer of another shape."""
    try:
        return {name: int(each["capacity_pages"]) for name, each in said["tiers"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Refused("its answer to GET /admin/cache is not what this kvtier reads") from None


def changed_sizes(plan: Plan, pages: dict[str, int]) -> dict[str, int]:
    """tier -> bytes by the plan, of those that have another size now. Of an L3 of several
    directories that has too little, one may be out of use, and comes back by itself."""
    changed = {}
    for tier in plan.tiers:
        now = pages.get(tier.name, tier.pages)
        is_l3 = tier.name == "l3"
        slack = max(2, L3_TOLERANCE * tier.pages) if is_l3 else 0
        if not tier.pages or abs(now - tier.pages) <= slack:
            continue
        if is_l3 and len(plan.disks) > 1 and 0 < now < tier.pages:
            continue
        changed[tier.name] = tier.bytes
    return changed
