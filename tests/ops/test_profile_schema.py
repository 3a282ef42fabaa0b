"""The JSON Schema that editors use: whole, and of one mind with the loader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from pydantic import BaseModel

from kvtier_ops.errors import ProfileError
from kvtier_ops.profile.json_schema import json_schema
from kvtier_ops.profile.load import load_profile
from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.walk import item_section_of, section_of

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json_schema()
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)


def described(model: type[BaseModel] = Profile) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field that is no section, with its part of the JSON Schema."""
    here = SCHEMA if model is Profile else SCHEMA["$defs"][model.__name__]
    for name in model.model_fields:
        section = section_of(model, name) or item_section_of(model, name)
        if section:
            yield from described(section)
        if not section_of(model, name):
            yield f"{model.__name__}.{name}", here["properties"][name]


FIELDS = dict(described())


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_described_and_its_values_are_valid(name: str) -> None:
    field = FIELDS[name]
    assert field["description"]
    assert field["examples"]
    validator = jsonschema_rs.validator_for({**field, "$defs": SCHEMA["$defs"]})
    for example in field["examples"]:
        validator.validate(example)
    if name not in ("Profile.version", "ApiKey.name"):
        validator.validate(field["default"])


def is_taken(home: Path, text: str) -> bool:
    path = home / "p.yaml"
    path.write_text(text)
    try:
        load_profile(path)
    except ProfileError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("server: {port: 8000}", True),
        ('server: {port: "8000"}', True),
        ("server: {port: 70000}", False),
        ("server: {port: x}", False),
        ("server: {port: 80.5}", False),
        ("server: {prot: 80}", False),
        ("server:\n  port: ${PORT:-8000}", True),
        ("server: {drain_s: 1.5}", True),
        ('server: {drain_s: "1.5"}', True),
        ("server: {drain_s: -1}", False),
        ("tiers: {prefix_reuse: true}", True),
        ("tiers: {prefix_reuse: on}", True),
        ('tiers: {prefix_reuse: "no"}', True),
        ("tiers: {prefix_reuse: 1}", True),
        ("tiers: {prefix_reuse: maybe}", False),
        ("tiers: {prefix_reuse: 2}", False),
        ("tiers: {l2: {size: 64GiB}}", True),
        ("tiers: {l2: {size: 64}}", False),
        ("tiers: {l2: {size: 64gib}}", False),
        ("tiers: {l2: {size: 25%}}", True),
        ("tiers:\n  l2:\n    size: ${L2:-64}GiB", True),
        ("tiers: {l3: {reserve: 25%}}", False),
        ("tiers: {l2: }", True),
        ("tiers: ", True),
        ("tiers: {l2: {numa: [0, 1]}}", True),
        ('tiers: {l2: {numa: ["0", 1]}}', True),
        ("tiers: {l2: {numa: none}}", True),
        ("tiers: {l2: {numa: all}}", False),
        ("tiers: {l2: {numa: []}}", False),
        ("tiers: {l3: {directories: [/a, 2024]}}", True),
        ("tiers: {l3: {directories: /a}}", False),
        ("model: {dtype: float32}", True),
        ("model: {dtype: bf16}", False),
        ("model: {served_name: 42}", True),
        ("model: {served_name: }", False),
        ("engine: {threads: 8}", True),
        ('engine: {threads: "8"}', True),
        ("engine: {threads: auto}", True),
        ("engine: {threads: 0}", False),
        ("engine: {environment: {A: 1, B: x, C: true}}", True),
        ("engine: {environment: {A: [1]}}", False),
        ("extends: [a]", False),
        ("server: {api_keys: [{name: a, env: A}]}", True),
        ("server: {api_keys: [{env: A}]}", False),
        ("nope: 1", False),
    ],
)
def test_it_takes_what_the_loader_takes(home: Path, text: str, is_right: bool) -> None:
    text = f"version: 1\n{text}\n"
    assert VALIDATOR.is_valid(yaml.safe_load(text)) is is_right
    assert is_taken(home, text) is is_right


def test_a_base_is_known_to_it() -> None:
    assert VALIDATOR.is_valid({"version": 1, "extends": "base.yaml"})
    assert not VALIDATOR.is_valid({"extends": "base.yaml"})
    assert VALIDATOR.is_valid({"version": "1"})
    assert not VALIDATOR.is_valid({"version": 2})


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda p: p.name)
def test_profiles_of_the_repository_satisfy_it(path: Path) -> None:
    VALIDATOR.validate(yaml.safe_load(path.read_text()))
