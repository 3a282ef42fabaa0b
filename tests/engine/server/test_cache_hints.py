"""Hints as fields of the body and as headers: what reaches the core, what is refused."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from support.fake_core import Script
from support.server_thread import MODEL, Running

from kvtier_engine.messages import CacheHints, Priority

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
BODIES = {COMPLETIONS: {"prompt": [5]}, CHAT: {"messages": [{"role": "user", "content": "x"}]}}
ALL = CacheHints(
    session="s 1", end_of_session=True, ttl_s=2.5, priority=Priority.LOW, pin=True, no_store=False
)
ALL_FIELDS = {
    "no_store": False,
    "session": "s 1",
    "end_of_session": True,
    "ttl_s": 2.5,
    "priority": "low",
    "pin": True,
}
ALL_HEADERS = {
    "X-KV-Cache-No-Store": "False",
    "X-KV-Cache-Session": "s 1",
    "X-KV-Cache-End-Of-Session": "1",
    "X-KV-Cache-TTL": "2.5",
    "X-KV-Cache-Priority": "low",
    "X-KV-Cache-Pin": "true",
}


def ask(
    server: Running, path: str = COMPLETIONS, headers: Any = (), **fields: Any
) -> CacheHints | None:
    body = {**BODIES[path], "max_tokens": 1, **fields}
    response = server.post(path, body, **dict(headers))
    assert response.status_code == 200, response.text
    return server.core.requests[-1].hints


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
def test_fields_and_headers_say_the_same(server: Running, path: str) -> None:
    assert ask(server, path, kv_cache=ALL_FIELDS) == ALL
    assert ask(server, path, ALL_HEADERS) == ALL
    assert ask(server, path, {name.lower(): value for name, value in ALL_HEADERS.items()}) == ALL


def test_a_field_goes_before_its_header_and_the_rest_stands(server: Running) -> None:
    said = ask(
        server, headers=ALL_HEADERS, kv_cache={"session": "mine", "pin": False, "ttl_s": None}
    )
    assert said == CacheHints(session="mine", end_of_session=True, ttl_s=2.5, priority=Priority.LOW)
    ask(server, headers={"X-KV-Cache-Salt": "of the header"}, cache_salt="of the body")
    ask(server, headers={"X-KV-Cache-Salt": "of the header"})
    assert [each.salt for each in server.core.requests[-2:]] == ["of the body", "of the header"]


def test_who_says_nothing_has_no_hints(server: Running) -> None:
    assert ask(server) is None
    assert ask(server, kv_cache={}) is None
    assert ask(server, kv_cache={"pin": False, "priority": "normal"}) is None
    assert ask(server, kv_cache=None) is None


def test_every_answer_of_a_request_has_the_hints(server: Running) -> None:
    ask(server, n=3, kv_cache={"session": "s"})
    assert [each.hints for each in server.core.requests] == [CacheHints(session="s")] * 3


WRONG_FIELDS = [
    ({"no_stroe": True}, "kv_cache.no_stroe", "not a field of this API"),
    ({"no_store": "yes"}, "kv_cache.no_store", "boolean"),
    ({"no_store": 1}, "kv_cache.no_store", "boolean"),
    ({"session": ""}, "kv_cache.session", "at least 1"),
    ({"session": "x" * 257}, "kv_cache.session", "256"),
    ({"session": 7}, "kv_cache.session", "string"),
    ({"ttl_s": 0}, "kv_cache.ttl_s", "greater than 0"),
    ({"ttl_s": True}, "kv_cache.ttl_s", "number"),
    ({"ttl_s": "5"}, "kv_cache.ttl_s", "number"),
    ({"priority": "urgent"}, "kv_cache.priority", "'low', 'normal' or 'high'"),
    ({"pin": None, "end_of_session": True}, "kv_cache.end_of_session", "which session"),
    ({"pin": True, "no_store": True}, "kv_cache.pin", "drop one"),
    ("no_store", "kv_cache", "no_store"),
    ([], "kv_cache", "object"),
]
WRONG_HEADERS = [
    ("X-KV-Cache-No-Store", "yes", "`true` or `false`"),
    ("X-KV-Cache-Session", "", "1 to 256"),
    ("X-KV-Cache-Session", "x" * 257, "1 to 256"),
    ("X-KV-Cache-Session", "\u00fc".encode(), "ASCII"),
    ("X-KV-Cache-TTL", "0", "above 0"),
    ("X-KV-Cache-TTL", "-1", "above 0"),
    ("X-KV-Cache-TTL", "nan", "above 0"),
    ("X-KV-Cache-TTL", "1e400", "above 0"),
    ("X-KV-Cache-TTL", "1_0", "above 0"),
    ("X-KV-Cache-Priority", "urgent", "`low`, `normal` or `high`"),
    ("X-KV-Cache-Pin", "2", "`true` or `false`"),
    ("X-KV-Cache-Salt", "", "1 to 256"),
    ("X-KV-Cache-Salt", "x" * 257, "1 to 256"),
    ("X-KV-Cache-Salt", "\u00fc".encode(), "ASCII"),
]


@pytest.mark.parametrize(("said", "param", "words"), WRONG_FIELDS, ids=str)
def test_a_wrong_field_is_named(server: Running, said: Any, param: str, words: str) -> None:
    response = server.post(COMPLETIONS, {"prompt": [5], "kv_cache": said})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert words in error["message"], error["message"]
    assert f"`{param}`" in error["message"]
    assert server.core.received == []


@pytest.mark.parametrize(("header", "text", "words"), WRONG_HEADERS, ids=str)
def test_a_wrong_header_is_named(server: Running, header: str, text: Any, words: str) -> None:
    response = server.post(COMPLETIONS, {"prompt": [5]}, **{header: text})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == header
    assert words in error["message"], error["message"]
    assert server.core.received == []


def test_the_session_may_be_in_a_header_and_its_end_in_the_body(server: Running) -> None:
    said = ask(server, headers={"X-KV-Cache-Session": "s"}, kv_cache={"end_of_session": True})
    assert said == CacheHints(session="s", end_of_session=True)


class TestPin:
    def test_the_answer_says_what_came_of_it(self, server: Running) -> None:
        body = {"prompt": [5], "max_tokens": 2, "kv_cache": {"pin": True}}
        usage = server.post(COMPLETIONS, body).json()["usage"]
        assert usage["kv_cache"] == {"pinned": True, "reason": None}
        server.core.script = Script(pin_refused="L2 is full of pins")
        usage = server.post(COMPLETIONS, body).json()["usage"]
        assert usage["kv_cache"] == {"pinned": False, "reason": "L2 is full of pins"}
        assert usage["prompt_tokens_details"] == {"cached_tokens": 0}

    def test_a_stream_says_it_with_the_usage(self, server: Running) -> None:
        server.core.script = Script(tokens=[40, 41], pin_refused="L2 is full of pins")
        body = {"prompt": [5], "stream": True, "stream_options": {"include_usage": True}}
        response = server.post(COMPLETIONS, {**body, "kv_cache": {"pin": True}})
        events = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")]
        assert json.loads(events[-1])["usage"]["kv_cache"]["reason"] == "L2 is full of pins"

    def test_who_did_not_ask_hears_nothing(self, server: Running) -> None:
        usage = server.post(COMPLETIONS, {"prompt": [5], "kv_cache": {"session": "s"}}).json()[
            "usage"
        ]
        assert set(usage) == {
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "prompt_tokens_details",
        }


def test_openai_s_client_can_say_it(server: Running) -> None:
    with openai.OpenAI(base_url=f"{server.thread.url}/v1", api_key="none") as client:
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "x"}],
            max_tokens=2,
            extra_body={"kv_cache": {"pin": True, "session": "s"}},
            extra_headers={"X-KV-Cache-Priority": "high"},
        )
    assert server.core.requests[0].hints == CacheHints(
        pin=True, session="s", priority=Priority.HIGH
    )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.model_extra == {"kv_cache": {"pinned": True, "reason": None}}
