"""Types of the profile's fields: how text becomes a value, and what editors are told."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from kvtier_engine.config import TENANT_PATTERN
from kvtier_ops import paths
from kvtier_ops.model.registry import REGISTERED
from kvtier_ops.profile.written import Written
from kvtier_ops.units import (
    AMOUNT_PATTERN,
    AUTO,
    LIMIT_PATTERN,
    SIZE_PATTERN,
    Amount,
    Auto,
    Respelled,
    Size,
    parse_amount,
    parse_size,
)

NUMA_NODES_MAX = 1024  # as many as the arena can bind to


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("not_single", "write a single value here")
    return str(value)


def _whole(text: str) -> int | None:
    """A whole number in digits alone; None if it is none.

    Raises Respelled where YAML's readers disagree on which one it is.
    """
    if text.isascii() and text.isdecimal() and len(text) <= 18 and (text[0] != "0" or text == "0"):
        return int(text)
    check_number(text)
    return None


def check_number(text: str) -> None:
    """Raises Respelled for a whole number that is not written in digits alone, such as
    `8_000`, `0123` (octal to some, decimal to others) or `1e3`."""
    bare = text.strip().replace("_", "")
    if not re.fullmatch(r"[+-]?\d{1,18}(\.0*|[eE]\+?\d)?", bare, re.ASCII):
        return
    number = str(int(Decimal(bare)))
    if number != text:
        raise Respelled(f"write a whole number in digits alone: `{number}`, not `{text[:40]}`")


def _size(value: Any) -> Size:
    return value if isinstance(value, Size) else parse_size(_text(value))


def _limit(value: Any) -> Size | None:
    return None if value is None or value == "none" else _size(value)


def _amount(value: Any) -> Amount:
    return value if isinstance(value, Amount) else parse_amount(_text(value))


def _whole_or_auto(value: Any, least: int, most: int, which: str) -> int | Auto:
    if isinstance(value, int | Auto) and not isinstance(value, bool):
        return value
    text = _text(value)
    if text == AUTO.value:
        return AUTO
    number = _whole(text)
    if number is None or not least <= number <= most:
        raise ValueError(f"write a whole number {which}, or `auto`, not `{text[:40]}`")
    return number


def _count(value: Any) -> int | Auto:
    return _whole_or_auto(value, 1, 10**18, "above 0")


def _rank(value: Any) -> int | Auto:
    return _whole_or_auto(value, 0, 9999, "from 0 to 9999")


def _numa(value: Any) -> tuple[int, ...] | Auto:
    if isinstance(value, Auto) or value == AUTO.value:
        return AUTO
    if value == "none" or value == ():
        return ()
    return _node_list(value, "`auto`, `none` or a list of NUMA nodes, one for each rank")


def _base(info: ValidationInfo) -> Path:
    """The folder from which relative paths are meant: the profile's own."""
    return info.context["base"] if info.context else Path.cwd()


def _path(value: Any, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    return _expand(value, info)


def _expand(value: Any, info: ValidationInfo) -> Path:
    """Variables are replaced here, in what was written: a `$` in their values means nothing."""
    text = _text(value)
    if isinstance(value, Written):
        return paths.expand(value.source, value.folder)
    return paths.expand(text, _base(info))


def _model(value: Any, info: ValidationInfo) -> str:
    text = _text(value)
    return text if text in REGISTERED else str(_expand(value, info))


def _name(value: Any) -> str:
    text = _text(value)
    if not text.isprintable() or text != text.strip() or not 1 <= len(text) <= 200:
        raise ValueError("a name has 1 to 200 printable characters and no spaces around it")
    return text


def _optional_path(value: Any, info: ValidationInfo) -> str:
    text = _text(value)
    return str(_expand(value, info)) if text else ""


def _variable(value: Any) -> str:
    text = _text(value)
    if text and not re.fullmatch(paths.VARIABLE_NAME, text):
        raise ValueError(
            f"this is the name of an environment variable, such as `KVTIER_KEY`, not `{text[:40]}`"
        )
    return text


def _tenant(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(TENANT_PATTERN, text):
        raise ValueError("a key's name has 1 to 64 letters, digits, `.`, `_` and `-`")
    return text


def _nodes(value: Any) -> tuple[int, ...]:
    """A list of NUMA nodes; `all` is none of them by name."""
    if value == "all" or value == ():
        return ()
    nodes = _node_list(value, "`all` or a list of NUMA nodes, such as `[0]`")
    if len(set(nodes)) < len(nodes):
        raise ValueError("names a NUMA node twice")
    return nodes


def _node_list(value: Any, allowed: str) -> tuple[int, ...]:
    """`allowed`: what may be written here, for the error."""
    items = [str(item) for item in value] if isinstance(value, list | tuple) else None
    if not items:
        shown = value if isinstance(value, str) else "a section" if items is None else "[]"
        raise ValueError(f"write {allowed}, not `{shown[:40]}`")
    for item in items:
        if not (item.isascii() and item.isdecimal() and int(item[:6]) < NUMA_NODES_MAX):
            raise ValueError(
                f"a NUMA node is a number from 0 to {NUMA_NODES_MAX - 1}, not `{item[:40]}`"
            )
    return tuple(map(int, items))


def _address(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,252}", text):
        raise ValueError(f"write a host's name or address, such as `10.0.0.1`, not `{text[:40]}`")
    return text


def _environment(value: Any) -> Any:
    if not isinstance(value, dict):
        raise PydanticCustomError("not_section", "write variables and values, `NAME: value`")
    return value


def _environment_name(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(paths.VARIABLE_NAME, text):
        raise ValueError("this is not the name of an environment variable")
    return text


def _environment_value(value: Any) -> str:
    text = _text(value)
    if "\0" in text:
        raise ValueError("a variable's value has no null characters")
    return text


_AS_TEXT = PlainSerializer(str, return_type=str)
_NUMBER_OR_TEXT = PlainSerializer(lambda value: value if isinstance(value, int) else str(value))


def _schema(**entries: Any) -> WithJsonSchema:
    return WithJsonSchema(entries)


SizeField = Annotated[
    Size, BeforeValidator(_size), _AS_TEXT, _schema(type="string", pattern=SIZE_PATTERN)
]
LimitField = Annotated[
    Size | None,
    BeforeValidator(_limit),
    PlainSerializer(lambda value: "none" if value is None else str(value), return_type=str),
    _schema(type="string", pattern=LIMIT_PATTERN),
]
AmountField = Annotated[
    Amount, BeforeValidator(_amount), _AS_TEXT, _schema(type="string", pattern=AMOUNT_PATTERN)
]
PathField = Annotated[Path, BeforeValidator(_path), _schema(type="string", minLength=1)]
ModelField = Annotated[str, BeforeValidator(_model), _schema(type="string", minLength=1)]
NameField = Annotated[
    str, BeforeValidator(_name), _schema(type="string", minLength=1, maxLength=200)
]
SecretFileField = Annotated[str, BeforeValidator(_optional_path), _schema(type="string")]
TraceField = Annotated[str, BeforeValidator(_optional_path), _schema(type="string")]
AddressField = Annotated[
    str, BeforeValidator(_address), _schema(type="string", minLength=1, maxLength=253)
]
EnvironmentField = Annotated[
    dict[
        Annotated[str, BeforeValidator(_environment_name)],
        Annotated[str, BeforeValidator(_environment_value)],
    ],
    BeforeValidator(_environment),
    _schema(type="object", additionalProperties={"type": "string"}),
]
VariableField = Annotated[str, BeforeValidator(_variable), _schema(type="string")]
ExtendsField = Annotated[str, BeforeValidator(_text), _schema(type="string")]
TenantField = Annotated[
    str, BeforeValidator(_tenant), _schema(type="string", minLength=1, maxLength=64)
]
CountField = Annotated[
    int | Auto,
    BeforeValidator(_count),
    _NUMBER_OR_TEXT,
    _schema(anyOf=[{"type": "integer", "minimum": 1}, {"const": "auto"}]),
]
RankField = Annotated[
    int | Auto,
    BeforeValidator(_rank),
    _NUMBER_OR_TEXT,
    _schema(anyOf=[{"type": "integer", "minimum": 0, "maximum": 9999}, {"const": "auto"}]),
]
_NODES = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": NUMA_NODES_MAX - 1},
    "minItems": 1,
    "maxItems": 64,
}
NodesField = Annotated[
    tuple[int, ...],
    BeforeValidator(_nodes),
    PlainSerializer(lambda value: list(value) or "all"),
    _schema(anyOf=[_NODES, {"const": "all"}]),
]
NumaField = Annotated[
    tuple[int, ...] | Auto,
    BeforeValidator(_numa),
    PlainSerializer(lambda value: str(value) if isinstance(value, Auto) else list(value) or "none"),
    _schema(anyOf=[_NODES, {"enum": ["auto", "none"]}]),
]
