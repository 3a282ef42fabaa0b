"""What a request says of the cache: whose pages it shares."""

from __future__ import annotations

import msgspec
from starlette.requests import Request

from kvtier_engine.server.api.fields import GenerationFields


class CacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """`tenant` is the API key's, `salt` the client's choice: pages are shared where both agree."""

    tenant: str = ""
    salt: str = ""


def cache_use(request: Request, fields: GenerationFields) -> CacheUse:
    return CacheUse(tenant=request.state.tenant, salt=fields.cache_salt or "")
