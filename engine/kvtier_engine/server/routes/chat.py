"""POST /v1/chat/completions."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from kvtier_engine.server.answer import Delta
from kvtier_engine.server.api.cache_hints import cache_use
from kvtier_engine.server.api.logprobs import chat_logprobs
from kvtier_engine.server.api.requests import ChatRequest
from kvtier_engine.server.api.responses import Usage
from kvtier_engine.server.generation import Job
from kvtier_engine.server.planning import check_text_length, plan
from kvtier_engine.server.routes.generate import Shape, generate, read
from kvtier_engine.server.routes.schema import takes
from kvtier_engine.server.service import Service
from kvtier_engine.server.text.tokenizer import Chat
from kvtier_engine.server.text.vocabulary import Vocabulary


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/chat/completions", openapi_extra=takes(ChatRequest), tags=["OpenAI"])
    async def chat_completions(request: Request) -> Response:
        """Answers a conversation."""
        fields = await read(request, ChatRequest)
        service.lifecycle.gate()
        service.check_model(fields.model)
        cache = cache_use(request, fields)

        async def prepare() -> tuple[Job, Shape]:
            prompt = await chat_prompt(service, fields)
            logprobs = fields.top_logprobs if fields.logprobs else None
            job = plan(
                service, fields, [prompt], cache=cache, logprobs=logprobs, default_tokens=None
            )
            return job, ChatShape(service, fields, request.state.request_id, prompt)

        return await generate(service, request, fields, fields.n, prepare)

    return routes


async def chat_prompt(service: Service, fields: ChatRequest) -> list[int]:
    """Token ids of the conversation. Raises BadRequest."""
    kwargs = dict(fields.chat_template_kwargs)
    if fields.reasoning_effort is not None:
        kwargs.setdefault("reasoning_effort", fields.reasoning_effort)
    chat = Chat(
        messages=fields.messages,
        add_generation_prompt=fields.add_generation_prompt,
        continue_final_message=fields.continue_final_message,
        kwargs=kwargs,
    )
    tokenizer = service.tokenizer
    text = await tokenizer.arender(chat)
    check_text_length(service, tokenizer, text)
    return await tokenizer.aencode(text, special=fields.add_special_tokens)


class ChatShape:
    """Chat completion objects and chunks of one request."""

    def __init__(
        self, service: Service, fields: ChatRequest, request_id: str, prompt: list[int]
    ) -> None:
        self._vocabulary: Vocabulary = service.tokenizer.vocabulary
        self._fields = fields
        self._prompt = prompt
        self._id = f"chatcmpl-{request_id}"
        self._created = int(time.time())
        self._model = service.config.model.served_name

    def first_chunks(self) -> Iterable[object]:
        for index in range(self._fields.n):
            choice = {
                "index": index,
                "delta": {"role": "assistant", "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
            chunk = self._object("chat.completion.chunk", [choice])
            if self._fields.return_token_ids:
                chunk["prompt_token_ids"] = self._prompt
            yield chunk

    def chunk(self, index: int, delta: Delta, usage: Usage | None) -> object:
        content = {"content": delta.text} if delta.text or delta.finish is None else {}
        choice = {"index": index, "delta": content, **self._ending(delta)}
        return self._object("chat.completion.chunk", [choice], usage)

    def last_chunk(self, usage: Usage) -> object:
        return self._object("chat.completion.chunk", [], usage)

    def body(self, answers: list[Delta], usage: Usage) -> object:
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                **self._ending(answer),
            }
            for index, answer in enumerate(answers)
        ]
        body = self._object("chat.completion", choices, usage)
        if self._fields.return_token_ids:
            body["prompt_token_ids"] = self._prompt
        return body

    def _ending(self, delta: Delta) -> dict[str, Any]:
        logprobs = None
        if self._fields.logprobs and (delta.logprobs or delta.finish is not None):
            logprobs = chat_logprobs(self._vocabulary, delta.logprobs)
        ending: dict[str, Any] = {
            "logprobs": logprobs,
            "finish_reason": delta.finish,
            "stop_reason": delta.stop_reason,
        }
        if self._fields.return_token_ids:
            ending["token_ids"] = delta.token_ids
        return ending

    def _object(
        self, kind: str, choices: list[dict[str, Any]], usage: Usage | None = None
    ) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "choices": choices,
            "usage": usage,
        }
