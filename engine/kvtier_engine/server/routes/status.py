"""What the server is and how it does: models, health, readiness, metrics, version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from kvtier_engine.server.api.responses import json_response
from kvtier_engine.server.lifecycle import RETRY_STARTING_S, Status
from kvtier_engine.server.service import Service


def _version() -> str:
    try:
        return version("kvtier")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"


VERSION = _version()


def router(service: Service) -> APIRouter:
    routes = APIRouter()
    _add_models(routes, service)

    @routes.get("/health", tags=["status"])
    async def health() -> Response:
        """200 while the process and the core live."""
        if service.lifecycle.status is Status.FAILED:
            return json_response({"status": "failed", "error": service.lifecycle.error}, 503)
        return json_response({"status": "ok"})

    @routes.get("/ready", tags=["status"])
    async def ready() -> Response:
        """200 when requests are taken; until then how far the start is."""
        is_ready = service.lifecycle.status is Status.READY
        headers = {} if is_ready else {"Retry-After": str(RETRY_STARTING_S)}
        return json_response(service.lifecycle.report(), 200 if is_ready else 503, headers)

    @routes.get("/metrics", tags=["status"])
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(service.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/version", tags=["status"])
    async def show_version() -> Response:
        return json_response({"version": VERSION})

    return routes


def _add_models(routes: APIRouter, service: Service) -> None:
    card: dict[str, Any] = {
        "id": service.config.model.served_name,
        "object": "model",
        "created": service.started,
        "owned_by": "kvtier",
        "root": str(service.config.model.path),
        "parent": None,
        "max_model_len": service.config.scheduler.max_context_tokens,
    }

    @routes.get("/v1/models", tags=["OpenAI"])
    async def models() -> Response:
        """The served model."""
        return json_response({"object": "list", "data": [card]})

    @routes.get("/v1/models/{name:path}", tags=["OpenAI"])
    async def model(name: str) -> Response:
        service.check_model(name)
        return json_response(card)
