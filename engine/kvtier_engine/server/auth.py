"""Who may ask: API keys, each a tenant of the cache, and the admin's key."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from kvtier_engine.config import SecretSource, ServerConfig
from kvtier_engine.server.api.responses import json_response
from kvtier_engine.server.errors import Unauthorized

ADMIN = "/admin/"
# vLLM asks for a key below /v1 alone. Here everything that takes or shows a user's text does,
# and nothing that probes and scrapers need.
OPEN = frozenset({"/health", "/ready", "/metrics", "/version", "/openapi.json", "/docs"})


class BadSecret(Exception):
    """A key cannot be read or used; the message names the field and never the key."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Digests of all keys: comparing those takes the same time whatever was sent."""

    tenants: dict[bytes, str] = field(default_factory=dict)  # tenant of the cache, by digest
    admin: bytes | None = None

    @classmethod
    def read(cls, config: ServerConfig) -> Keys:
        """Raises BadSecret."""
        tenants: dict[bytes, str] = {}
        for place, key in enumerate(config.api_keys):
            digest = _read(f"server.api_keys[{place}]", key.secret)
            if digest in tenants:
                raise BadSecret(f"`server.api_keys[{place}]`: another name has the same key")
            tenants[digest] = "" if key.shared_cache else key.name
        admin = None
        if config.admin_key is not None:
            admin = _read("server.admin_key", config.admin_key)
            if admin in tenants:
                raise BadSecret("`server.admin_key` is the same as one of `server.api_keys`")
        return cls(tenants, admin)

    def tenant(self, sent: bytes) -> str | None:
        """The tenant whose key was sent; None: nobody's."""
        found = None
        for digest, tenant in self.tenants.items():
            if hmac.compare_digest(digest, sent):
                found = tenant
        return found

    def is_admin(self, sent: bytes) -> bool:
        return self.admin is not None and hmac.compare_digest(self.admin, sent)


class Authenticated:
    """Lets a request in if it has the key that its path needs. What passes has its tenant in
    `request.state.tenant`. Without an admin key, paths of the admin lead nowhere: a 404."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope.setdefault("state", {})["tenant"] = self._tenant(scope)
            except Unauthorized as error:
                await json_response(error.body(), error.status, error.headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _tenant(self, scope: Scope) -> str:
        path, keys = scope["path"], self._keys
        if path.startswith(ADMIN):
            if keys.admin is not None and not keys.is_admin(_sent(scope)):
                raise Unauthorized("this needs the admin's key, as `Authorization: Bearer KEY`")
            return ""
        if not keys.tenants or path in OPEN:
            return ""
        tenant = keys.tenant(_sent(scope))
        if tenant is None:
            raise Unauthorized(
                "the API key is missing or not known here: send it as `Authorization: Bearer KEY`"
            )
        return tenant


def _read(place: str, source: SecretSource) -> bytes:
    try:
        return _digest(source.read().encode())
    except ValueError as error:
        raise BadSecret(f"`{place}`: {error}") from None


def _sent(scope: Scope) -> bytes:
    """The digest of the key in the request's headers, or of nothing."""
    scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
    return _digest(key.strip().encode("latin-1") if scheme.lower() == "bearer" else b"")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
