"""POST /v1/completions."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from kvtier_engine.server.answer import Delta
from kvtier_engine.server.api.cache_hints import cache_use
from kvtier_engine.server.api.logprobs import completion_logprobs
from kvtier_engine.server.api.requests import CompletionRequest, Prompt
from kvtier_engine.server.api.responses import Usage
from kvtier_engine.server.generation import Job
from kvtier_engine.server.planning import COMPLETION_TOKENS, check_text_length, plan
from kvtier_engine.server.routes.generate import Shape, generate, read
from kvtier_engine.server.routes.schema import takes
from kvtier_engine.server.service import Service


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/completions", openapi_extra=takes(CompletionRequest), tags=["OpenAI"])
    async def completions(request: Request) -> Response:
        """Continues one or more prompts."""
        fields = await read(request, CompletionRequest)
        service.lifecycle.gate()
        service.check_model(fields.model)
        cache = cache_use(request, fields)

        async def prepare() -> tuple[Job, Shape]:
            prompts = [await _token_ids(service, fields, prompt) for prompt in fields.prompt]
            job = plan(
                service,
                fields,
                prompts,
                cache=cache,
                logprobs=fields.logprobs,
                default_tokens=COMPLETION_TOKENS,
            )
            echoes = await _echoes(service, fields, prompts)
            return job, CompletionShape(service, fields, request.state.request_id, prompts, echoes)

        answers = len(fields.prompt) * fields.n
        return await generate(service, request, fields, answers, prepare)

    return routes


async def _token_ids(service: Service, fields: CompletionRequest, prompt: Prompt) -> list[int]:
    if isinstance(prompt, list):
        return prompt
    check_text_length(service, service.tokenizer, prompt)
    return await service.tokenizer.aencode(prompt, special=fields.add_special_tokens)


async def _echoes(
    service: Service, fields: CompletionRequest, prompts: list[list[int]]
) -> list[str]:
    """The text to give back before each prompt's answers."""
    if not fields.echo:
        return [""] * len(prompts)
    return [
        given if isinstance(given, str) else await service.tokenizer.adecode(token_ids)
        for given, token_ids in zip(fields.prompt, prompts, strict=True)
    ]


class CompletionShape:
    """Text completion objects of one request; a stream's chunks look like the whole."""

    def __init__(
        self,
        service: Service,
        fields: CompletionRequest,
        request_id: str,
        prompts: list[list[int]],
        echoes: list[str],
    ) -> None:
        self._vocabulary = service.tokenizer.vocabulary
        self._fields = fields
        self._prompts = prompts
        self._echoes = echoes
        self._id = f"cmpl-{request_id}"
        self._created = int(time.time())
        self._model = service.config.model.served_name

    def first_chunks(self) -> Iterable[object]:
        if self._fields.echo:
            for index in range(len(self._prompts) * self._fields.n):
                yield self.chunk(index, Delta(text=self._echo(index)), None)

    def chunk(self, index: int, delta: Delta, usage: Usage | None) -> object:
        return self._object([self._choice(index, delta)], usage)

    def last_chunk(self, usage: Usage) -> object:
        return self._object([], usage)

    def body(self, answers: list[Delta], usage: Usage) -> object:
        choices = []
        for index, answer in enumerate(answers):
            answer.text = self._echo(index) + answer.text
            choices.append(self._choice(index, answer))
        return self._object(choices, usage)

    def _echo(self, index: int) -> str:
        return self._echoes[index // self._fields.n]

    def _choice(self, index: int, delta: Delta) -> dict[str, Any]:
        top = self._fields.logprobs
        choice: dict[str, Any] = {
            "index": index,
            "text": delta.text,
            "logprobs": None,
            "finish_reason": delta.finish,
            "stop_reason": delta.stop_reason,
        }
        if top is not None:
            choice["logprobs"] = completion_logprobs(self._vocabulary, delta.logprobs, top)
        if self._fields.return_token_ids:
            choice["prompt_token_ids"] = self._prompts[index // self._fields.n]
            choice["token_ids"] = delta.token_ids
        return choice

    def _object(self, choices: list[dict[str, Any]], usage: Usage | None) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": choices,
            "usage": usage,
        }
