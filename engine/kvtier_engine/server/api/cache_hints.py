"""What a request says of the cache: whose pages it shares, and what becomes of its own.

Each hint is a field of the body's `kv_cache` or, for clients that cannot add fields, a header.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from pydantic import ValidationError
from starlette.requests import Request

from kvtier_engine.messages import CacheHints, Priority
from kvtier_engine.server.api.fields import SALT_CHARS_MAX, GenerationFields, KvCacheFields
from kvtier_engine.server.api.parse import shown
from kvtier_engine.server.errors import BadRequest


class CacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """`tenant` is the API key's, `salt` the client's choice: pages are shared where both agree."""

    tenant: str = ""
    salt: str = ""
    hints: CacheHints | None = None


class _Header(NamedTuple):
    """`read` raises ValueError or KeyError."""

    name: str
    read: Callable[[str], Any]
    allowed: str
    schema: dict[str, Any]


def _name(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise ValueError
    return text


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", text):
        raise ValueError
    return float(text)


def _switch(name: str) -> _Header:
    values = {"true": True, "1": True, "false": False, "0": False}
    schema = {"enum": ["true", "false"]}
    return _Header(name, lambda text: values[text.lower()], "`true` or `false`", schema)


_NAME = f"1 to {SALT_CHARS_MAX} printable ASCII characters"
_NAME_SCHEMA = {"type": "string", "pattern": f"^[!-~]{{1,{SALT_CHARS_MAX}}}$"}
_SECONDS_SCHEMA = {"type": "integer", "minimum": 1, "maximum": 10**9}
_SALT = _Header("X-KV-Cache-Salt", _name, _NAME, _NAME_SCHEMA)
_HEADERS = {
    "no_store": _switch("X-KV-Cache-No-Store"),
    "session": _Header("X-KV-Cache-Session", _name, _NAME, _NAME_SCHEMA),
    "end_of_session": _switch("X-KV-Cache-End-Of-Session"),
    "ttl_s": _Header("X-KV-Cache-TTL", _seconds, "a number of seconds above 0", _SECONDS_SCHEMA),
    "priority": _Header(
        "X-KV-Cache-Priority", str, "`low`, `normal` or `high`", {"enum": [*Priority]}
    ),
    "pin": _switch("X-KV-Cache-Pin"),
}
PARAMETERS = [
    {"name": header.name, "in": "header", "required": False, "schema": header.schema}
    for header in (*_HEADERS.values(), _SALT)
]


def cache_use(request: Request, fields: GenerationFields) -> CacheUse:
    """Body and headers together: a field of the body goes before its header. Raises BadRequest."""
    said = _from_headers(request.headers)
    if fields.kv_cache is not None:
        said |= fields.kv_cache.model_dump(exclude_unset=True)
    hints = CacheHints(**{**said, "priority": Priority(said.get("priority", Priority.NORMAL))})
    if hints.end_of_session and not hints.session:
        raise BadRequest(
            "`kv_cache.end_of_session` needs `kv_cache.session`: which session ends?",
            param="kv_cache.end_of_session",
        )
    if hints.no_store and hints.pin:
        raise BadRequest(
            "`kv_cache.pin` keeps pages that `kv_cache.no_store` does not store: drop one of them",
            param="kv_cache.pin",
        )
    return CacheUse(
        tenant=request.state.tenant,
        salt=fields.cache_salt or _salt(request.headers),
        hints=hints if hints != CacheHints() else None,
    )


def _from_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    said = {}
    for field, header in _HEADERS.items():
        text = headers.get(header.name)
        if text is not None:
            said[field] = _read(header, text)
            try:
                KvCacheFields.model_validate({field: said[field]})
            except ValidationError:
                raise _bad(header, text) from None
    return said


def _salt(headers: Mapping[str, str]) -> str:
    text = headers.get(_SALT.name)
    if text is None:
        return ""
    if not 1 <= len(text) <= SALT_CHARS_MAX:
        raise _bad(_SALT, text)
    return str(_read(_SALT, text))


def _read(header: _Header, text: str) -> Any:
    try:
        return header.read(text)
    except (ValueError, KeyError):
        raise _bad(header, text) from None


def _bad(header: _Header, text: str) -> BadRequest:
    return BadRequest(
        f"`{header.name}` must be {header.allowed}, not {shown(text)}", param=header.name
    )
