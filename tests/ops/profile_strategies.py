"""Random profiles that are valid, as nested dicts: what an operator could have written."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel

from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.walk import section_of

SIZES = st.builds(
    lambda number, unit: f"{number}{unit}",
    st.integers(0, 5000) | st.decimals(0, 5000, places=2, allow_nan=False),
    st.sampled_from(["B", "kB", "MB", "GB", "KiB", "MiB", "GiB", " TiB"]),
)
PERCENT = st.integers(1, 100).map("{}%".format) | st.just("12.5%")
WORDS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
NAMES = st.from_regex(r"[A-Z][A-Z0-9]{0,5}", fullmatch=True).map("V_{}".format)
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.just(" "), max_size=12
).filter(lambda text: "${" not in text and "*****" not in text)
PATHS = st.lists(WORDS | st.just(".."), min_size=1, max_size=3).map("/".join)
SECRETS = st.fixed_dictionaries({"env": NAMES}) | st.fixed_dictionaries({"file": PATHS})
NODES = st.lists(st.integers(0, 1023), min_size=1, max_size=4, unique=True)

SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "version": st.just(1),
    "extends": st.just(""),
    "path": PATHS,
    "served_name": TEXT.map(str.strip).filter(bool),
    "environment": st.dictionaries(NAMES, TEXT, max_size=3),
    "master_address": WORDS,
    "host": WORDS,
    "api_keys": st.lists(
        st.tuples(WORDS, SECRETS, st.booleans()), max_size=3, unique_by=lambda each: each[0]
    ).map(lambda keys: [{"name": name, **at, "shared_cache": shared} for name, at, shared in keys]),
    "admin_key": SECRETS | st.just({}),
    "secret": SECRETS | st.just({}),
    "env": NAMES,
    "file": PATHS,
    "request_trace": PATHS,
    "directories": st.lists(PATHS, max_size=3),
    "shared_directories": st.lists(PATHS, max_size=3),
}


def _of(rule: dict[str, Any]) -> st.SearchStrategy[Any]:
    match rule:
        case {"anyOf": choices}:
            return st.one_of([_of(choice) for choice in choices])
        case {"enum": values}:
            return st.sampled_from(values)
        case {"const": value}:
            return st.just(value)
        case {"type": "array"}:
            return NODES
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "integer"}:
            step = rule.get("multipleOf", 1)
            most = rule.get("maximum", 10**9) // step
            return st.integers(-(-rule["minimum"] // step), most).map(lambda n: n * step)
        case {"type": "number"}:
            least = rule.get("minimum", rule.get("exclusiveMinimum", 0) + 0.01)
            return st.floats(least, rule["maximum"], allow_nan=False)
        case {"pattern": pattern}:
            words = [word for word in ("auto", "none") if word in pattern]
            return st.one_of(SIZES, *map(st.just, words), *([PERCENT] if "%" in pattern else []))
    raise AssertionError(f"no strategy for {rule}")


def leaf(model: type[BaseModel], name: str) -> st.SearchStrategy[Any]:
    """Values of one field, as they are written."""
    return SPECIAL[name] if name in SPECIAL else _of(model.model_json_schema()["properties"][name])


def sections(model: type[BaseModel] = Profile) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the section's fields."""
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name in model.model_fields:
        section = section_of(model, name) if name not in ("admin_key", "secret") else None
        strategy = sections(section) if section else leaf(model, name)
        (required if name == "version" else optional)[name] = strategy
    return st.fixed_dictionaries(required, optional=optional)


def leaves(model: type[BaseModel] = Profile, prefix: str = "") -> dict[str, st.SearchStrategy[Any]]:
    """Dotted name of every field that is no section -> values."""
    found: dict[str, st.SearchStrategy[Any]] = {}
    for name in model.model_fields:
        section = section_of(model, name)
        if section is not None:
            found.update(leaves(section, f"{prefix}{name}."))
        elif prefix + name != "extends":
            found[prefix + name] = leaf(model, name)
    return found
