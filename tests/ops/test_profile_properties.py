"""Whatever an operator writes that is valid: it is shown, set and described the same way."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops.profile_strategies import leaves, sections

from kvtier_ops.profile.json_schema import json_schema
from kvtier_ops.profile.load import load_profile
from kvtier_ops.profile.render import profile_as_yaml
from kvtier_ops.profile.schema import Profile

LEAVES = leaves()
SCHEMA = jsonschema_rs.validator_for(json_schema())
quietly = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def load(home: Path, text: str, *overrides: str) -> Profile:
    path = home / "p.yaml"
    path.write_text(text)
    return load_profile(path, overrides).profile


@quietly
@given(sections())
def test_shown_profiles_read_back_as_the_same(home: Path, data: dict[str, Any]) -> None:
    profile = load(home, yaml.safe_dump(data, allow_unicode=True))
    shown = profile_as_yaml(profile)
    assert load(home, shown) == profile
    assert profile_as_yaml(load(home, shown)) == shown


@quietly
@given(sections())
def test_what_is_written_and_shown_satisfies_the_json_schema(
    home: Path, data: dict[str, Any]
) -> None:
    text = yaml.safe_dump(data, allow_unicode=True)
    SCHEMA.validate(yaml.safe_load(text))
    SCHEMA.validate(yaml.safe_load(profile_as_yaml(load(home, text))))


def with_field(data: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(data)
    section = result
    *parts, name = field.split(".")
    for part in parts:
        section = section.setdefault(part, {})
    section[name] = value
    return result


FIELD_AND_TWO_VALUES = st.sampled_from(sorted(LEAVES)).flatmap(
    lambda field: st.tuples(st.just(field), LEAVES[field], LEAVES[field])
)


@quietly
@given(FIELD_AND_TWO_VALUES, st.booleans(), sections())
def test_a_set_field_is_as_one_in_the_file(
    home: Path, chosen: tuple[str, Any, Any], is_there: bool, data: dict[str, Any]
) -> None:
    field, value, other = chosen
    if field.startswith("server.admin_key."):
        data.get("server", {}).pop("admin_key", None)
    before = with_field(data, field, other) if is_there else data
    written = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    written = written.removesuffix("...\n")
    overridden = load(home, yaml.safe_dump(before), f"{field}={written}")
    assert overridden == load(home, yaml.safe_dump(with_field(data, field, value)))


def test_every_leaf_has_a_strategy() -> None:
    assert {"tiers.l3.directories", "server.admin_key.env", "engine.environment"} <= set(LEAVES)
