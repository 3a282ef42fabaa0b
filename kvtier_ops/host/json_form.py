"""Facts of a host as JSON and back: the dataclasses of types.py are the format."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from kvtier_ops.errors import BadInput
from kvtier_ops.text import shortened

_NUMBER_MAX = 1 << 63  # the first that is too large
_TEXT_MAX = 64 * 1024


def as_json(value: Any) -> Any:
    """Objects by field, mappings by key, in a stable order."""
    if is_dataclass(value):
        return {each.name: as_json(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(each) for key, each in sorted(value.items())}
    if isinstance(value, tuple):
        return [as_json(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def from_json(kind: Any, value: Any, place: str = "") -> Any:
    """`value`, as JSON has it, as a `kind`: a dataclass, or a type that one has a field of.

    Raises BadInput with the place (`gpus[0].name`) of what is not as it should be. Numbers are
    never negative.
    """
    origin = typing.get_origin(kind)
    if origin is types.UnionType:
        [inner] = [each for each in typing.get_args(kind) if each is not type(None)]
        return None if value is None else from_json(inner, value, place)
    if origin is tuple:
        item = typing.get_args(kind)[0]
        values = _expected(list, value, place, "a list")
        return tuple(from_json(item, each, f"{place}[{i}]") for i, each in enumerate(values))
    if origin is Mapping:
        return _mapping(typing.get_args(kind), value, place)
    if is_dataclass(kind):
        return _dataclass(kind, value, place)
    return _scalar(kind, value, place)


def wrong(place: str, what: str, hint: str = "") -> BadInput:
    """An error at a place within the file."""
    return BadInput(f"{_shown(place) or 'the file'} {what}", hint or _RECORD)


_RECORD = "write it again with `kvtier host record`"


def _dataclass(kind: Any, value: Any, place: str) -> Any:
    given = _expected(dict, value, place, "an object")
    kinds, known = _kinds(kind), {each.name: each for each in fields(kind)}
    found = {}
    for name, each in given.items():
        if name not in known:
            close = difflib.get_close_matches(name[:80], known, 1, 0.6)
            hint = f"did you mean `{close[0]}`?" if close else ""
            raise wrong(_join(place, name), "is not a field of a recorded host", hint)
        found[name] = from_json(kinds[name], each, _join(place, name))
    for name, each in known.items():
        if name not in found and _is_required(each):
            raise wrong(_join(place, name), "is missing")
    return kind(**found)


@cache
def _kinds(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_required(each: Field[Any]) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _mapping(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    key_kind, kind = kinds
    found = {}
    for key, each in _expected(dict, value, place, "an object").items():
        here = _join(place, key)
        found[_key(key_kind, key, here)] = from_json(kind, each, here)
    return found


def _key(kind: Any, key: str, place: str) -> Any:
    if kind is not int:
        return _scalar(kind, key, place)
    if not (key.isascii() and key.isdecimal() and len(key) < 20 and str(int(key)) == key):
        raise wrong(place, "is not named by a whole number")
    return _scalar(int, int(key), place)


def _scalar(kind: Any, value: Any, place: str) -> Any:
    if kind is bool:
        return _expected(bool, value, place, "`true` or `false`")
    if kind is int:
        number = _expected(int, value, place, "a whole number")
        return _checked(number, place)
    if kind is float:
        number = value if type(value) is int else _expected(float, value, place, "a number")
        return float(_checked(number, place))
    text = _expected(str, value, place, "a text")
    if len(text) > _TEXT_MAX or "\0" in text or not _is_unicode(text):
        raise wrong(place, "is a text that no host has")
    if kind is Path:
        if not text.startswith("/"):
            raise wrong(place, f"is not an absolute path: `{_shown(text)}`")
        return Path(text)
    if issubclass(kind, StrEnum):
        return _member(kind, text, place)
    return text


def _member(kind: type[StrEnum], text: str, place: str) -> StrEnum:
    try:
        return kind(text)
    except ValueError:
        names = ", ".join(each.value for each in kind)
        raise wrong(place, f"is `{_shown(text)}`", f"it is one of {names}") from None


def _expected(kind: type[Any], value: Any, place: str, words: str) -> Any:
    """JSON's `true` is no number, whatever Python says."""
    if type(value) is not kind:
        raise wrong(place, f"is not {words}")
    return value


def _checked(number: float, place: str) -> float:
    if not 0 <= number < _NUMBER_MAX:  # and so no NaN
        raise wrong(place, "is negative, or larger than any host's")
    return number


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _shown(text: str) -> str:
    """What stands in somebody's file may be long, and move a terminal's cursor."""
    return shortened(text, 120)
