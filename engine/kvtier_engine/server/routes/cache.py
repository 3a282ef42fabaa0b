"""/admin/cache: what an operator can see and do of the cache. Only with an admin key."""

from __future__ import annotations

from enum import Enum

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from kvtier_engine.messages import (
    Attach,
    Clear,
    Command,
    Detach,
    EndSession,
    Figures,
    LookUp,
    Pin,
    Prefix,
    Resize,
    Unpin,
    Warm,
)
from kvtier_engine.server.api.admin import (
    AttachRequest,
    ClearRequest,
    EndSessionRequest,
    PrefixOnlyRequest,
    PrefixRequest,
    ResizeRequest,
    TierRequest,
    UnpinRequest,
    WarmRequest,
)
from kvtier_engine.server.api.responses import json_response
from kvtier_engine.server.errors import BadRequest, Conflict, ContextTooLong, InternalError
from kvtier_engine.server.planning import check_ids, check_text_length
from kvtier_engine.server.routes.generate import read
from kvtier_engine.server.routes.schema import takes
from kvtier_engine.server.service import Service
from kvtier_engine.server.streaming import ClientGone, while_connected
from kvtier_engine.server.text.tokenizer import Chat

PATH = "/admin/cache"
TAGS: list[str | Enum] = ["admin"]


def router(service: Service) -> APIRouter:
    routes = APIRouter()
    _add_prefix_routes(routes, service)
    _add_tier_routes(routes, service)

    @routes.get(PATH, tags=TAGS)
    async def show(request: Request) -> Response:
        """How full each tier is, and what hints hold."""
        return await _answer(service, request, Figures())

    @routes.post(f"{PATH}/end_session", openapi_extra=takes(EndSessionRequest), tags=TAGS)
    async def end_session(request: Request) -> Response:
        """Drops the pages that a session alone has used."""
        fields = await read(request, EndSessionRequest)
        tenant = _tenant(service, fields.tenant)
        command = EndSession(fields.session, tenant, fields.salt or "")
        return await _answer(service, request, command)

    @routes.post(f"{PATH}/clear", openapi_extra=takes(ClearRequest), tags=TAGS)
    async def clear(request: Request) -> Response:
        """Empties tiers, or makes the pages of one tenant unreachable."""
        fields = await read(request, ClearRequest)
        if fields.tenant is not None:
            command = Clear([], _tenant(service, fields.tenant))
        else:
            command = Clear(["l2", "l1", "l3"] if fields.tier == "all" else [fields.tier])
        return await _answer(service, request, command)

    return routes


def _add_prefix_routes(routes: APIRouter, service: Service) -> None:
    @routes.post(f"{PATH}/lookup", openapi_extra=takes(PrefixOnlyRequest), tags=TAGS)
    async def look_up(request: Request) -> Response:
        """In which tiers the pages of a prompt's beginning are."""
        fields = await read(request, PrefixOnlyRequest)
        return await _answer(service, request, LookUp(await _prefix(service, fields)))

    @routes.post(f"{PATH}/warm", openapi_extra=takes(WarmRequest), tags=TAGS)
    async def warm(request: Request) -> Response:
        """Brings what is known of a prompt's beginning up from disk."""
        fields = await read(request, WarmRequest)
        return await _answer(service, request, Warm(await _prefix(service, fields), fields.tier))

    @routes.post(f"{PATH}/pin", openapi_extra=takes(PrefixOnlyRequest), tags=TAGS)
    async def pin(request: Request) -> Response:
        """Brings what is known of a prompt's beginning to L2, and keeps it there."""
        fields = await read(request, PrefixOnlyRequest)
        return await _answer(service, request, Pin(await _prefix(service, fields)))

    @routes.post(f"{PATH}/unpin", openapi_extra=takes(UnpinRequest), tags=TAGS)
    async def unpin(request: Request) -> Response:
        """Takes pins back, whoever made them."""
        fields = await read(request, UnpinRequest)
        prefix = None if fields.all else await _prefix(service, fields)
        return await _answer(service, request, Unpin(prefix))


def _add_tier_routes(routes: APIRouter, service: Service) -> None:
    @routes.post(f"{PATH}/resize", openapi_extra=takes(ResizeRequest), tags=TAGS)
    async def resize(request: Request) -> Response:
        """Makes a tier smaller or larger until the engine ends; answers when it is."""
        fields = await read(request, ResizeRequest)
        return await _answer(service, request, Resize(fields.tier, fields.size_bytes))

    @routes.post(f"{PATH}/detach", openapi_extra=takes(TierRequest), tags=TAGS)
    async def detach(request: Request) -> Response:
        """Gives a tier's memory, or its directories, back."""
        fields = await read(request, TierRequest)
        return await _answer(service, request, Detach(fields.tier))

    @routes.post(f"{PATH}/attach", openapi_extra=takes(AttachRequest), tags=TAGS)
    async def attach(request: Request) -> Response:
        """Uses a tier again."""
        fields = await read(request, AttachRequest)
        return await _answer(service, request, Attach(fields.tier, fields.size_bytes))


async def _answer(service: Service, request: Request, command: Command) -> Response:
    """The core's reply. A client that goes away does not call its command back."""
    service.lifecycle.gate()
    try:
        reply = await while_connected(
            request.receive, service.core.control(service.unique_name(), command)
        )
    except ClientGone:
        return Response(status_code=499)
    if reply.refused is not None:
        raise Conflict(reply.refused)
    if reply.failed is not None:
        raise InternalError(reply.failed)
    return json_response(reply.values)


async def _prefix(service: Service, fields: PrefixRequest) -> Prefix:
    """Raises BadRequest."""
    token_ids = await _token_ids(service, fields)
    limit = service.config.scheduler.max_context_tokens
    if len(token_ids) >= limit:
        raise ContextTooLong(
            f"the prompt has {len(token_ids)} tokens; the limit is {limit} for prompt and answer "
            "together: shorten the prompt"
        )
    tenant = _tenant(service, fields.tenant)
    return Prefix(token_ids=token_ids, tenant=tenant, salt=fields.salt or "")


async def _token_ids(service: Service, fields: PrefixRequest) -> list[int]:
    tokenizer = service.tokenizer
    if fields.token_ids is not None:
        check_ids("token_ids", fields.token_ids, tokenizer.vocabulary.size)
        return fields.token_ids
    if fields.messages is None:
        text = fields.prompt or ""
        special = fields.add_special_tokens is not False
    else:
        kwargs = fields.chat_template_kwargs
        text = await tokenizer.arender(
            Chat(
                messages=fields.messages,
                add_generation_prompt=fields.add_generation_prompt,
                continue_final_message=False,
                kwargs=kwargs,
            )
        )
        special = fields.add_special_tokens is True
    check_text_length(service, tokenizer, text)
    return await tokenizer.aencode(text, special=special)


def _tenant(service: Service, name: str | None) -> str:
    """The tenant of the cache that a key of this name is."""
    for key in service.config.server.api_keys:
        if key.name == name and key.shared_cache:
            raise BadRequest(
                f"the key `{name}` has no pages of its own (`shared_cache`): leave `tenant` out",
                param="tenant",
            )
    return name or ""
