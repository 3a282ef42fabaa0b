"""A profile as YAML, and the schema as JSON Schema."""

from __future__ import annotations

from typing import Any

import yaml

from kvtier_ops.plan import Plan
from kvtier_ops.profile_schema import Profile
from kvtier_ops.units import Size


def profile_as_yaml(profile: Profile) -> str:
    """Every field, in the order of the schema; reads back as the same profile."""
    return yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


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


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of profiles: what editors complete and check against."""
    schema = Profile.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
