"""What surrounds every request: its id, its metrics, faults, the limit on its body."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvtier_engine.server.api.responses import json_response
from kvtier_engine.server.errors import BodyTooLarge, fault
from kvtier_engine.server.metrics import Metrics

log = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Observed:
    """Gives every request an id (the client's X-Request-Id if it is a sane one), counts it,
    and turns whatever escapes the handlers into a 500 that tells nothing of the insides."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        began_s = time.monotonic()
        scope.setdefault("state", {}).update(request_id=request_id, arrived_s=began_s)
        status: int | None = None

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception:
            log.exception("request_id=%s failed", request_id)
            if status is None:
                error = fault()
                await json_response(error.body(), error.status)(scope, receive, watch)
        finally:
            self._count(scope, status, time.monotonic() - began_s, request_id)

    def _count(self, scope: Scope, status: int | None, elapsed_s: float, request_id: str) -> None:
        route = scope.get("route")
        endpoint = getattr(route, "path", "other")  # a client's free choice is no label
        self._metrics.requests.labels(endpoint, str(status or 499)).inc()
        self._metrics.duration.labels(endpoint).observe(elapsed_s)
        level = logging.INFO if scope["method"] == "POST" else logging.DEBUG  # not the probes
        log.log(
            level,
            "request_id=%s method=%s path=%r status=%s elapsed_s=%.4f",
            *(request_id, scope["method"], scope["path"], status, elapsed_s),
        )


class BodyLimit:
    """Refuses bodies over the limit with BodyTooLarge, whether or not their length was
    announced. uvicorn reads and drops what a client still sends, so that it gets the answer
    instead of a reset connection."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = int(headers.get("content-length", "0"))
        waits = headers.get("expect", "").lower() == "100-continue"
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            if waits and announced > self._max_bytes:
                raise self._too_large()  # and the client does not send it
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise self._too_large()
            return message

        await self._app(scope, limited, send)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body has more than {self._max_bytes} bytes, this server's limit")
