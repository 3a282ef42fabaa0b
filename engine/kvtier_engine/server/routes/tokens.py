"""POST /tokenize and /detokenize, in vLLM's shapes."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from kvtier_engine.server.api.requests import DetokenizeRequest, TokenizeRequest
from kvtier_engine.server.api.responses import json_response
from kvtier_engine.server.planning import check_ids
from kvtier_engine.server.routes.generate import read
from kvtier_engine.server.routes.schema import takes
from kvtier_engine.server.service import Service
from kvtier_engine.server.text.tokenizer import Chat


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/tokenize", openapi_extra=takes(TokenizeRequest), tags=["tokens"])
    async def tokenize(request: Request) -> Response:
        """Token ids of a text or of a conversation."""
        fields = await read(request, TokenizeRequest)
        tokenizer = service.tokenizer
        service.check_model(fields.model)
        tokens = await _token_ids(service, fields)
        texts = await tokenizer.atexts(tokens) if fields.return_token_strs else None
        return json_response(
            {
                "count": len(tokens),
                "max_model_len": service.config.scheduler.max_context_tokens,
                "tokens": tokens,
                "token_strs": texts,
            }
        )

    @routes.post("/detokenize", openapi_extra=takes(DetokenizeRequest), tags=["tokens"])
    async def detokenize(request: Request) -> Response:
        """The text of token ids."""
        fields = await read(request, DetokenizeRequest)
        tokenizer = service.tokenizer
        service.check_model(fields.model)
        check_ids("tokens", fields.tokens, tokenizer.vocabulary.size)
        return json_response({"prompt": await tokenizer.adecode(fields.tokens)})

    return routes


async def _token_ids(service: Service, fields: TokenizeRequest) -> list[int]:
    tokenizer = service.tokenizer
    if fields.messages is None:
        assert fields.prompt is not None, "validated: a prompt or messages"
        special = fields.add_special_tokens is not False
        return await tokenizer.aencode(fields.prompt, special=special)
    chat = Chat(
        messages=fields.messages,
        add_generation_prompt=fields.add_generation_prompt,
        continue_final_message=fields.continue_final_message,
        kwargs=fields.chat_template_kwargs,
    )
    text = await tokenizer.arender(chat)
    return await tokenizer.aencode(text, special=fields.add_special_tokens is True)
