"""The schema by field name: sections, their fields, and what is near to a wrong name."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel

from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.written import FieldPath


def section_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The section that the field `name` of `model` holds, if it holds one."""
    field = model.model_fields.get(name)
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def item_section_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The section that each item of the list `name` is, if they are."""
    field = model.model_fields.get(name)
    for kind in get_args(field.annotation) if field else ():
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def model_at(path: FieldPath) -> type[BaseModel] | None:
    """The section at `path`; None if no section can be there."""
    model: type[BaseModel] | None = Profile
    for part in path:
        if isinstance(part, str):
            model = (section_of(model, part) or item_section_of(model, part)) if model else None
    return model


def all_fields(model: type[BaseModel] = Profile, prefix: str = "") -> list[str]:
    """Dotted names of every field, sections included, in the order of the schema."""
    names = []
    for name in model.model_fields:
        names.append(prefix + name)
        section = section_of(model, name)
        names += all_fields(section, f"{prefix}{name}.") if section else []
    return names


def nearest_field(path: FieldPath) -> str:
    """A field of the same section with a like name, or one of another section, or all."""
    model, name = model_at(path[:-1]), str(path[-1])
    if model is None:
        return ""
    if not name.isprintable():
        return "a character that cannot be seen is in the name: type it and its indent again"
    here = difflib.get_close_matches(name[:80], model.model_fields, 1, 0.6)
    if here:
        return f"did you mean `{here[0]}`?"
    elsewhere = [field for field in all_fields() if field.split(".")[-1] == name]
    if elsewhere:
        return f"it belongs in `{elsewhere[0].rpartition('.')[0] or 'the top level'}`"
    return f"the fields here are {', '.join(model.model_fields)}"


def example_of(path: FieldPath) -> str:
    """`for example ...`, from the schema; empty where the error names all choices."""
    names = [part for part in path if isinstance(part, str)]
    model = model_at(tuple(names[:-1]))
    field = model.model_fields.get(names[-1]) if names and model else None
    if field is None or not field.examples:
        return ""
    if any(isinstance(choice, str) for choice in get_args(field.annotation)):
        return ""
    return f"for example `{names[-1]}: {as_flow(field.examples[0])}`"


def as_flow(value: Any) -> str:
    """As one writes it in YAML, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {as_flow(item)}' for name, item in value.items())}}}"
    return f"[{', '.join(map(as_flow, value))}]" if isinstance(value, list) else str(value)
