"""The schema as JSON Schema (2020-12): what editors complete, explain and check profiles with.

It takes what the loader takes. The loader sees text, an editor what its own YAML reader makes
of it: a port may arrive as 8000, "8000" or "${PORT}", a name as 42, a switch as "on".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.walk import section_of

_Schema = dict[str, Any]

_REFERENCE: _Schema = {"type": "string", "pattern": r"\$\{"}  # what it becomes, nobody knows yet
_DIGITS: _Schema = {"type": "string", "pattern": "^-?(0|[1-9][0-9]*)$"}
_NUMBER: _Schema = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$"}
_SWITCH: _Schema = {
    "type": "string",
    "pattern": "^([Tt]rue|TRUE|[Ff]alse|FALSE|[Oo]n|ON|[Oo]ff|OFF|[Yy]es|YES|[Nn]o|NO)$",
}
_TEXT = ["string", "number", "boolean"]
_ABOUT = ("title", "description", "default", "examples")


def json_schema() -> _Schema:
    """JSON Schema of profiles, with descriptions, defaults and examples."""
    schema = Profile.model_json_schema(mode="validation")
    _correct_defaults(schema["$defs"], Profile, Profile(version=1).model_dump(mode="json"))
    for section in (schema, *schema["$defs"].values()):
        section["properties"] = {
            name: _as_an_editor_sees_it(field) for name, field in section["properties"].items()
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "kvtier profile",
    }


def _correct_defaults(sections: _Schema, model: type[BaseModel], values: _Schema) -> None:
    """Defaults as they are written: pydantic knows how for values, not for these."""
    for name, value in values.items():
        if (section := section_of(model, name)) is not None:
            _correct_defaults(sections, section, value)
        elif model is not Profile:
            sections[model.__name__]["properties"][name]["default"] = value


def _as_an_editor_sees_it(field: _Schema) -> _Schema:
    about = {name: field[name] for name in _ABOUT if name in field}
    if "$ref" in field:
        about.pop("default", None)  # that of each of its fields says more
    rule = {name: value for name, value in field.items() if name not in _ABOUT}
    return {**about, **_wider(rule)}


def _wider(rule: _Schema) -> _Schema:
    match rule:
        case {"$ref": _}:
            return _any_of([rule, {"type": "null"}])  # `l2:` with nothing below it
        case {"anyOf": choices}:
            numbers = [_DIGITS] if any(each.get("type") == "integer" for each in choices) else []
            return _any_of([*map(_widen_items, choices), *numbers, _REFERENCE])
        case {"const": value} if not isinstance(value, str):
            return {"enum": [value, str(value)]}
        case {"enum": _} | {"const": _}:
            return _any_of([rule, _REFERENCE])
        case {"type": "boolean"}:
            bit = {"type": "integer", "minimum": 0, "maximum": 1}
            return _any_of([rule, _SWITCH, bit, _REFERENCE])
        case {"type": "integer"}:
            return _any_of([rule, _DIGITS, _REFERENCE])
        case {"type": "number"}:
            return _any_of([rule, _NUMBER, _REFERENCE])
        case {"type": "string", "pattern": pattern}:
            return {**rule, "pattern": rf"{pattern}|{_REFERENCE['pattern']}"}
        case {"type": "string"}:
            return {**rule, "type": _TEXT}
        case {"type": "object"}:
            return {**rule, "additionalProperties": {"type": _TEXT}}
    return _widen_items(rule)


def _widen_items(rule: _Schema) -> _Schema:
    """A list may hold what its items may be, alone; sections in it are never empty."""
    items = rule.get("items")
    return {**rule, "items": _wider(items)} if items and "$ref" not in items else rule


def _any_of(choices: Iterable[_Schema]) -> _Schema:
    return {"anyOf": list(choices)}
