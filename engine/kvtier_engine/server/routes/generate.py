"""What chat and text completions have in common: from a planned job to the response."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from kvtier_engine.server.answer import Delta
from kvtier_engine.server.api.fields import GenerationFields, StreamOptions
from kvtier_engine.server.api.parse import parse
from kvtier_engine.server.api.responses import Usage, json_response
from kvtier_engine.server.generation import Generation, Job
from kvtier_engine.server.metrics import GenerationClock
from kvtier_engine.server.service import Service
from kvtier_engine.server.streaming import ClientGone, EventStream, while_connected

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=BaseModel)


class Shape(Protocol):
    """How an endpoint writes its answers. Values are encoded as JSON by msgspec."""

    def first_chunks(self) -> Iterable[object]:
        """What a stream begins with."""

    def chunk(self, index: int, delta: Delta, usage: Usage | None) -> object:
        """An event of a stream."""

    def last_chunk(self, usage: Usage) -> object:
        """The event with the usage and no choices."""

    def body(self, answers: list[Delta], usage: Usage) -> object:
        """The answer in one piece."""


Prepare = Callable[[], Awaitable[tuple[Job, Shape]]]


async def read(request: Request, model: type[Model]) -> Model:
    """The request's body, validated. Raises BadRequest, BodyTooLarge."""
    return parse(model, await request.body())


async def generate(
    service: Service, request: Request, fields: GenerationFields, answers: int, prepare: Prepare
) -> Response:
    """Admits `answers` sequences, lets `prepare` make the job, answers as the client asked.
    When the client goes away, at whatever point, everything of it is aborted at once."""
    clock = GenerationClock(service.metrics, request.state.arrived_s)
    exchange = service.core.exchange(answers)
    try:
        job, shape = await while_connected(request.receive, prepare())
        generation = Generation(job, exchange, service.tokenizer.vocabulary, clock)
        generation.start(service.unique_name())
        if fields.stream:
            events = _events(generation, shape, fields.stream_options or StreamOptions())
            return EventStream(events, exchange.close, service.metrics.cancelled.inc)
        whole = await while_connected(request.receive, _collect(generation, job.answers))
        response = json_response(shape.body(whole, generation.usage()))
    except BaseException as error:
        exchange.close()
        if isinstance(error, ClientGone):
            service.metrics.cancelled.inc()
            return Response(status_code=499)  # nobody reads it; the log and metrics do
        raise
    exchange.close()
    return response


async def _collect(generation: Generation, answers: int) -> list[Delta]:
    whole = [Delta() for _ in range(answers)]
    async for news in generation.deltas():
        for index, delta in news.items():
            whole[index].extend(delta)
    return whole


async def _events(
    generation: Generation, shape: Shape, options: StreamOptions
) -> AsyncIterator[object]:
    for chunk in shape.first_chunks():
        yield chunk
    async for news in generation.deltas():
        usage = generation.usage() if options.continuous_usage_stats else None
        for index, delta in news.items():
            if delta.text or delta.token_ids or delta.logprobs or delta.finish is not None:
                yield shape.chunk(index, delta, usage)
    if options.include_usage:
        yield shape.last_chunk(generation.usage())
