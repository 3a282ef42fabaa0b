"""The profile with the plan's choices written into it."""

from __future__ import annotations

from kvtier_ops.plan.types import Plan
from kvtier_ops.profile.schema import Profile
from kvtier_ops.units import Size


def resolve(profile: Profile, plan: Plan) -> Profile:
    """The profile with the plan's choice in the place of every `auto` and percentage."""
    tiers = profile.tiers
    return profile.model_copy(
        update={
            "model": profile.model.model_copy(update={"served_name": plan.served_name}),
            "engine": profile.engine.model_copy(
                update={
                    "device": plan.device,
                    "threads": plan.threads,
                    "max_context_tokens": plan.max_context_tokens,
                }
            ),
            "tiers": tiers.model_copy(
                update={
                    "l1": tiers.l1.model_copy(update={"size": Size(plan.l1.bytes)}),
                    "l2": tiers.l2.model_copy(
                        update={"size": Size(plan.l2.bytes), "numa": plan.numa_nodes}
                    ),
                    "l3": tiers.l3.model_copy(update={"size": Size(plan.l3.bytes)}),
                }
            ),
        }
    )
