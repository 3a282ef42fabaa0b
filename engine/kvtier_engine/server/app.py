"""The ASGI application: routes, error handlers, middleware."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from kvtier_engine.server.api.responses import json_response
from kvtier_engine.server.auth import Authenticated
from kvtier_engine.server.errors import ApiError, error_body
from kvtier_engine.server.middleware import BodyLimit, Observed
from kvtier_engine.server.routes import cache, chat, completions, status, tokens
from kvtier_engine.server.routes.schema import openapi
from kvtier_engine.server.service import Service


def create_app(service: Service) -> FastAPI:
    app = FastAPI(title="kvtier", version=status.VERSION, redoc_url=None)
    for module in (chat, completions, tokens, status):
        app.include_router(module.router(service))
    if service.keys.admin is not None:
        app.include_router(cache.router(service))
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_middleware(BodyLimit, max_bytes=service.config.server.max_body_bytes)
    app.add_middleware(Authenticated, keys=service.keys)
    app.add_middleware(Observed, metrics=service.metrics)
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    return app


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return json_response(error.body(), error.status, error.headers)


async def _http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own: no such path, or another method."""
    assert isinstance(error, HTTPException)
    path, method = request.url.path, request.method
    message = {
        404: f"there is no `{path[:200]}` here; GET /openapi.json lists the endpoints",
        405: f"`{path[:200]}` does not take {method}",
    }.get(error.status_code, str(error.detail))
    body = error_body(message, "invalid_request_error", code=_CODES.get(error.status_code))
    return json_response(body, error.status_code, dict(error.headers or {}))


_CODES = {404: "not_found", 405: "method_not_allowed"}
