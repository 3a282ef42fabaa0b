"""The OpenAPI schema: bodies are read by our own parser, so their schemas are added here."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from kvtier_engine.server.api.admin import (
    AttachRequest,
    ClearRequest,
    EndSessionRequest,
    PrefixOnlyRequest,
    ResizeRequest,
    TierRequest,
    UnpinRequest,
    WarmRequest,
)
from kvtier_engine.server.api.cache_hints import PARAMETERS
from kvtier_engine.server.api.fields import GenerationFields
from kvtier_engine.server.api.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
)

_PLACE = "#/components/schemas/{model}"
_BODIES: list[type[BaseModel]] = [
    ChatRequest,
    CompletionRequest,
    TokenizeRequest,
    DetokenizeRequest,
    PrefixOnlyRequest,
    WarmRequest,
    UnpinRequest,
    EndSessionRequest,
    ClearRequest,
    ResizeRequest,
    TierRequest,
    AttachRequest,
]


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of an endpoint whose body is a `model`."""
    schema = {"$ref": _PLACE.format(model=model.__name__)}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    headers = {"parameters": PARAMETERS} if issubclass(model, GenerationFields) else {}
    return {"requestBody": body, **headers}


def openapi(app: FastAPI) -> dict[str, Any]:
    """The whole schema, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        _, models = models_json_schema(
            [(model, "validation") for model in _BODIES], ref_template=_PLACE
        )
        schema.setdefault("components", {}).setdefault("schemas", {}).update(models["$defs"])
        app.openapi_schema = schema
    return app.openapi_schema
