"""What differs between two profiles, field by field, after all defaults, bases and variables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kvtier_ops.profile.load import ProfileFile
from kvtier_ops.profile.render import shown_data
from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.walk import all_fields, as_flow, section_of
from kvtier_ops.profile.written import FieldPath
from kvtier_ops.profile.yaml_source import dotted

_ENVIRONMENT: FieldPath = ("engine", "environment")


@dataclass(frozen=True)
class Side:
    """A field's value in one of the two, secrets masked. `place` is empty for a default."""

    value: Any
    place: str
    is_default: bool


@dataclass(frozen=True)
class Difference:
    field: str
    a: Side
    b: Side


def differences(a: ProfileFile, b: ProfileFile) -> tuple[Difference, ...]:
    """In the order of the schema. Values are compared as they are, and shown masked."""
    values_a, values_b = (dict(_fields(each.profile.model_dump(mode="json"))) for each in (a, b))
    shown_a, shown_b = (dict(_fields(shown_data(each.profile, each.tree))) for each in (a, b))
    return tuple(
        Difference(dotted(path), _side(a, path, shown_a), _side(b, path, shown_b))
        for path in sorted({**values_a, **values_b}, key=_order)
        if values_a.get(path) != values_b.get(path)
    )


def _order(path: FieldPath) -> tuple[int, FieldPath]:
    is_variable = path[: len(_ENVIRONMENT)] == _ENVIRONMENT
    return all_fields().index(dotted(_ENVIRONMENT if is_variable else path)), path


def _fields(data: dict[str, Any], path: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    """Every field that is no section; variables for the engine one by one."""
    model: Any = Profile
    for part in path:
        model = section_of(model, str(part))
    for name, value in data.items():
        below = (*path, name)
        if section_of(model, name) is not None:
            yield from _fields(value, below)
        elif below == _ENVIRONMENT:
            yield from (((*below, variable), text) for variable, text in value.items())
        else:
            yield below, value


def _side(file: ProfileFile, path: FieldPath, shown: dict[FieldPath, Any]) -> Side:
    is_written = path in file.tree.values
    place = file.tree.value_place(path) if is_written else ""
    return Side(shown.get(path), place, not is_written)


def render(found: Sequence[Difference]) -> str:
    """Lines of text: the field, and what it is in both."""
    return "\n".join(
        f"{each.field}\n  - {_line(each.a)}\n  + {_line(each.b)}" for each in found
    ) or ("no difference")


def _line(side: Side) -> str:
    if side.value is None:
        return "not set"
    return f"{as_flow(side.value) or repr('')}  ({side.place or 'default'})"


def as_json(found: Sequence[Difference]) -> list[dict[str, Any]]:
    return [asdict(each) for each in found]
