"""Answers that end when their client goes away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kvtier_engine.server.api.responses import json_bytes
from kvtier_engine.server.errors import ApiError, fault

log = logging.getLogger(__name__)

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"


class ClientGone(Exception):
    """The client closed its connection before the answer was complete."""


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Awaits `work`, the request's body having been read; cancels it and raises ClientGone
    as soon as the client disconnects."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events: each value as JSON, and `[DONE]`. An ApiError on the way becomes
    an event with OpenAI's error object. `close` runs once, whatever happened."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[object],
        close: Callable[[], None],
        on_gone: Callable[[], None],
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._close = close
        self._on_gone = on_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, self._pump(send))
        except ClientGone:
            self._on_gone()
        finally:
            self._close()

    async def _pump(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        try:
            async for event in self._events:
                await _body(send, b"data: " + json_bytes(event) + b"\n\n")
        except ApiError as error:
            await _body(send, b"data: " + json_bytes(error.body()) + b"\n\n")
        except Exception:
            log.exception("a stream failed")
            await _body(send, b"data: " + json_bytes(fault().body()) + b"\n\n")
        await _body(send, DONE)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
