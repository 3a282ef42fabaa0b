"""A profile as YAML, and the schema as JSON Schema."""

from __future__ import annotations

from typing import Any

import yaml

from kvtier_ops.profile.schema import Profile


def profile_as_yaml(profile: Profile) -> str:
    """Every field, in the order of the schema; reads back as the same profile."""
    return yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of profiles: what editors complete and check against."""
    schema = Profile.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
