"""/admin/cache: what reaches the core, what comes back, and who may ask."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.server_thread import Running, running_server

from kvtier_engine.messages import (
    Attach,
    Clear,
    Control,
    ControlReply,
    Detach,
    EndSession,
    Failed,
    Figures,
    LookUp,
    Pin,
    Prefix,
    Resize,
    Unpin,
    Warm,
)
from kvtier_engine.server.core_client import COMMANDS_MAX
from kvtier_engine.server.text.tokenizer import Tokenizer

ADMIN = "/admin/cache"
KEY = "key-of-the-admin"
HEADERS = {"Authorization": f"Bearer {KEY}"}
IDS = [5, 6, 7]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("admin", "search", "shared"):
        (folder / name).write_text(f"key-of-the-{name}")
    keys = [
        {"name": name, "secret": {"file": str(folder / name)}, "shared_cache": name == "shared"}
        for name in ("search", "shared")
    ]
    return {"server__admin_key": {"file": str(folder / "admin")}, "server__api_keys": keys}


@pytest.fixture(scope="module")
def running(tiny_model: Path, options: dict[str, Any]) -> Iterator[Running]:
    with running_server(tiny_model, **options) as server:
        yield server


@pytest.fixture
def admin(running: Running) -> Running:
    running.core.received.clear()
    running.core.reply = None
    return running


def post(server: Running, path: str, **body: Any) -> httpx.Response:
    return server.post(f"{ADMIN}/{path}", body, **HEADERS)


def test_only_the_admin_s_key_opens_it(admin: Running) -> None:
    for sent in ({}, {"Authorization": "Bearer key-of-the-search"}, {"Authorization": KEY}):
        response = admin.client.get(ADMIN + "/", headers=sent)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert admin.post(f"{ADMIN}/clear", {"tier": "all"}, **sent).status_code == 401
    assert admin.core.received == []
    assert admin.post("/v1/completions", {"prompt": [5]}, **HEADERS).status_code == 401


PREFIX = Prefix(token_ids=IDS, tenant="search", salt="s")
WHOSE = {"tenant": "search", "salt": "s"}


@pytest.mark.parametrize(
    ("path", "body", "command"),
    [
        ("lookup", {"token_ids": IDS, **WHOSE}, LookUp(PREFIX)),
        ("lookup", {"token_ids": IDS}, LookUp(Prefix(token_ids=IDS))),
        ("warm", {"token_ids": IDS, **WHOSE}, Warm(PREFIX, "l2")),
        ("warm", {"token_ids": IDS, "tier": "l1", **WHOSE}, Warm(PREFIX, "l1")),
        ("pin", {"token_ids": IDS, **WHOSE}, Pin(PREFIX)),
        ("unpin", {"token_ids": IDS, **WHOSE}, Unpin(PREFIX)),
        ("unpin", {"all": True}, Unpin(None)),
        ("end_session", {"session": "x", **WHOSE}, EndSession("x", "search", "s")),
        ("end_session", {"session": "x"}, EndSession("x")),
        ("clear", {"tier": "l3"}, Clear(["l3"])),
        ("clear", {"tier": "all"}, Clear(["l2", "l1", "l3"])),
        ("clear", {"tier": "all", "tenant": "search"}, Clear([], "search")),
        ("clear", {"tier": "all", "tenant": "gone-long-ago"}, Clear([], "gone-long-ago")),
        ("clear", {"tier": "all", "tenant": ""}, Clear([], "")),
        ("resize", {"tier": "l1", "size_bytes": 5}, Resize("l1", 5)),
        ("detach", {"tier": "l2"}, Detach("l2")),
        ("attach", {"tier": "l3"}, Attach("l3")),
        ("attach", {"tier": "l3", "size_bytes": 5}, Attach("l3", 5)),
    ],
)
def test_each_command_reaches_the_core(admin: Running, path, body, command) -> None:
    values = {"pages": 3, "tiers": {"l1": {"tokens": 4}}, "reason": None}
    admin.core.reply = lambda m: ControlReply(request_id=m.request_id, values=values)
    response = post(admin, path, **body)
    assert response.status_code == 200, response.text
    assert response.json() == values
    assert admin.core.commands == [command]


def test_figures(admin: Running) -> None:
    admin.core.reply = lambda m: ControlReply(request_id=m.request_id, values={"tiers": {}})
    response = admin.client.get(ADMIN, headers=HEADERS)
    assert (response.status_code, response.json()) == (200, {"tiers": {}})
    assert admin.core.commands == [Figures()]


def test_text_and_messages_become_the_prompt_that_requests_have(
    admin: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    special = []
    encode = Tokenizer.aencode

    async def watched(self: Tokenizer, text: str, **options: bool) -> list[int]:
        special.append(options["special"])
        return await encode(self, text, **options)

    monkeypatch.setattr(Tokenizer, "aencode", watched)
    key = {"Authorization": "Bearer key-of-the-search"}
    messages = [{"role": "user", "content": "Hi"}]
    admin.post("/v1/completions", {"prompt": "one two", "max_tokens": 1}, **key)
    admin.post("/v1/chat/completions", {"messages": messages, "max_tokens": 1}, **key)
    post(admin, "lookup", prompt="one two")
    post(admin, "lookup", messages=messages)
    asked = [request.prompt_ids for request in admin.core.requests]
    looked = [command.prefix.token_ids for command in admin.core.commands]  # type: ignore[union-attr]
    assert asked == looked
    assert special == [True, False] * 2, "the tiny tokenizer has no BOS: see what it is asked"


@pytest.mark.parametrize(
    ("path", "body", "param", "words"),
    [
        ("lookup", {}, None, "give one of"),
        ("lookup", {"prompt": "x", "token_ids": IDS}, None, "give one of"),
        ("lookup", {"prompt": ""}, "prompt", "at least 1"),
        ("lookup", {"token_ids": []}, "token_ids", "at least 1"),
        ("lookup", {"token_ids": [400]}, "token_ids", "0 to 399"),
        ("lookup", {"token_ids": [-1]}, "token_ids[0]", "-1"),
        ("lookup", {"token_ids": [5] * 256}, None, "256 tokens; the limit is 256"),
        ("lookup", {"prompt": "x", "tennant": "a"}, "tennant", "not a field"),
        ("lookup", {"prompt": "x", "tenant": "a/b"}, "tenant", "pattern"),
        ("lookup", {"prompt": "x", "tenant": "shared"}, "tenant", "no pages of its own"),
        ("lookup", {"prompt": "x", "salt": ""}, "salt", "at least 1"),
        ("lookup", {"messages": [{"role": "robot", "content": "x"}]}, "messages", "robot"),
        ("warm", {"prompt": "x", "tier": "l3"}, "tier", "'l1' or 'l2'"),
        ("unpin", {}, None, "`all: true`"),
        ("unpin", {"all": True, "prompt": "x"}, None, "`all: true`"),
        ("end_session", {}, "session", "missing"),
        ("end_session", {"session": ""}, "session", "at least 1"),
        ("clear", {}, "tier", "missing"),
        ("clear", {"tier": "l4"}, "tier", "'all'"),
        ("resize", {"tier": "l4", "size_bytes": 5}, "tier", "'l3'"),
        ("resize", {"tier": "l2"}, "size_bytes", "missing"),
        ("resize", {"tier": "l2", "size_bytes": 0}, "size_bytes", "greater than 0"),
        ("detach", {"tier": "l1"}, "tier", "'l2' or 'l3'"),
        ("attach", {"tier": "l1"}, "tier", "'l2' or 'l3'"),
        ("attach", {"tier": "l3", "size": "5GiB"}, "size", "not a field"),
        ("clear", {"tier": "l1", "tenant": "search"}, None, "`tier` must be `all`"),
    ],
)
def test_a_wrong_field_is_named(admin: Running, path, body, param, words) -> None:
    response = post(admin, path, **body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert words in error["message"], error["message"]
    assert error["param"] == param
    assert admin.core.received == []


def test_a_refusal_is_a_409_and_a_fault_a_500(admin: Running) -> None:
    admin.core.reply = lambda m: ControlReply(request_id=m.request_id, refused="the disk is gone")
    response = post(admin, "clear", tier="l3")
    assert response.status_code == 409
    assert response.json()["error"]["message"] == "the disk is gone"
    admin.core.reply = lambda m: ControlReply(request_id=m.request_id, failed="ZeroDivisionError()")
    assert post(admin, "clear", tier="l3").status_code == 500


def test_replies_find_who_asked(admin: Running) -> None:
    def held(message: Control) -> None:
        """Answers the second first."""
        if len(admin.core.commands) == 2:
            for each in reversed([m for m in admin.core.received if isinstance(m, Control)]):
                command = each.command
                assert isinstance(command, EndSession)
                values = {"session": command.session}
                admin.core.send(ControlReply(request_id=each.request_id, values=values))

    admin.core.reply = held  # type: ignore[assignment]
    with ThreadPoolExecutor() as pool:
        replies = pool.map(lambda name: post(admin, "end_session", session=name).json(), "ab")
    assert list(replies) == [{"session": "a"}, {"session": "b"}]


def test_so_many_commands_and_no_more_and_a_core_that_fails(
    tiny_model: Path, options: dict[str, Any]
) -> None:
    with running_server(tiny_model, **options) as server, ThreadPoolExecutor(20) as pool:
        server.core.reply = lambda m: None
        open_ones = [pool.submit(post, server, "clear", tier="l1") for _ in range(COMMANDS_MAX)]
        server.core.wait_for(lambda seen: len(seen) == COMMANDS_MAX)
        assert post(server, "clear", tier="l1").status_code == 429
        server.core.send(Failed("the weights are gone"))
        for each in open_ones:
            assert each.result().status_code == 500
            assert "the weights are gone" in each.result().text


def test_not_before_the_server_is_ready(tiny_model: Path, options: dict[str, Any]) -> None:
    with running_server(tiny_model, ready=False, **options) as server:
        assert server.client.get(ADMIN, headers=HEADERS).status_code == 503
        assert post(server, "lookup", prompt="x").status_code == 503
