"""A client's mistakes: the right status, OpenAI's shape, a sentence that says what to change."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest
from support.fake_core import Script
from support.server_thread import MODEL, Running, running_server

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "Hi"}]


def error_of(response, status: int = 400) -> dict[str, str | None]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


# Field, value, the field that the error names, and words that its sentence has.
WRONG_FIELDS = [
    ("max_tokens", "12", "max_tokens", ["integer", '"12"']),
    ("max_tokens", 1.5, "max_tokens", ["integer", "1.5"]),
    ("max_tokens", True, "max_tokens", ["integer", "true"]),
    ("max_tokens", 0, "max_tokens", ["greater than or equal to 1"]),
    ("max_tokens", 10**30, "max_tokens", ["limit is 256"]),
    ("n", 0, "n", ["greater than or equal to 1"]),
    ("n", 129, "n", ["less than or equal to 128"]),
    ("temperature", -0.1, "temperature", ["greater than or equal to 0"]),
    ("temperature", 2.5, "temperature", ["less than or equal to 2"]),
    ("temperature", "hot", "temperature", ["number", '"hot"']),
    ("top_p", 0, "top_p", ["greater than 0"]),
    ("top_k", -2, "top_k", ["-1"]),
    ("min_p", 1.5, "min_p", ["1"]),
    ("seed", 2**63, "seed", ["less than"]),
    ("presence_penalty", 3, "presence_penalty", ["2"]),
    ("repetition_penalty", 0, "repetition_penalty", ["0.01"]),
    ("stop", 5, "stop", ["string"]),
    ("stop", ["a", ""], "stop", ["empty"]),
    ("stop", ["x"] * 17, "stop", ["16"]),
    ("stop", "x" * 1025, "stop", ["1024"]),
    ("stop_token_ids", [400], "stop_token_ids", ["400", "0 to 399"]),
    ("stop_token_ids", [-1], "stop_token_ids[0]", ["-1"]),
    ("stop_token_ids", ["a"], "stop_token_ids[0]", ["integer"]),
    ("logit_bias", {"400": 1}, "logit_bias", ["0 to 399"]),
    ("logit_bias", {"x": 1}, "logit_bias", ["`x`"]),
    ("logit_bias", {"1": 101}, "logit_bias[1]", ["100"]),
    ("logit_bias", [1], "logit_bias", ["object"]),
    ("min_tokens", 20, "min_tokens", ["raise `max_tokens`"]),
    ("stream", "yes", "stream", ["boolean"]),
    ("stream_options", {"include_usage": True}, None, ["only with `stream: true`"]),
    ("cache_salt", "x" * 257, "cache_salt", ["256"]),
    ("cache_salt", "", "cache_salt", ["at least 1"]),
    ("cache_salt", 7, "cache_salt", ["string", "7"]),
    ("model", 7, "model", ["string"]),
    ("best_of", 3, None, ["equal to `n`"]),
]
WRONG_PROMPTS = [
    ("prompt", None, "prompt", ["missing"]),
    ("prompt", "", "prompt", ["empty"]),
    ("prompt", [], "prompt", ["not empty"]),
    ("prompt", [[]], "prompt", ["empty"]),
    ("prompt", [1, "a"], "prompt", ["array of token ids"]),
    ("prompt", [True], "prompt", ["array of token ids"]),
    ("prompt", [1.5], "prompt", ["array of token ids"]),
    ("prompt", {"a": 1}, "prompt", ["array of token ids"]),
    ("prompt", [400], "prompt", ["400", "0 to 399"]),
    ("prompt", [-5], "prompt", ["-5"]),
    ("prompt", [10**30], "prompt", ["0 to 399"]),
    ("prompt", ["x"] * 65, None, ["65 answers", "at most 64", "split"]),
]
UNSUPPORTED = [
    ("suffix", "end"),
    ("tools", [{"type": "function"}]),
    ("tool_choice", "required"),
    ("response_format", {"type": "json_object"}),
    ("guided_json", {"type": "object"}),
    ("use_beam_search", True),
    ("prompt_logprobs", 1),
    ("truncate_prompt_tokens", 5),
    ("logits_processors", ["x"]),
    ("prompt_embeds", "AAAA"),
    ("mm_processor_kwargs", {"num_crops": 4}),
    ("multi_modal_data", {"image": "AAAA"}),
    ("lora_request", {"lora_name": "x"}),
    ("lora_path", "/x"),
    ("kv_transfer_params", {"do_remote_prefill": True}),
]


def case_id(value: object) -> str | None:
    return None if isinstance(value, list) else str(value)[:20]


@pytest.mark.parametrize(("field", "value", "param", "words"), WRONG_FIELDS + WRONG_PROMPTS)
def test_wrong_field_is_named(server: Running, field, value, param, words) -> None:
    body = {"prompt": "x", "max_tokens": 8, field: value}
    error = error_of(server.post(COMPLETIONS, body))
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    for word in words:
        assert word in error["message"], error["message"]
    assert server.core.received == [], "nothing reached the core"


@pytest.mark.parametrize(("field", "value"), UNSUPPORTED)
def test_field_that_would_change_the_answer_is_refused(server: Running, field, value) -> None:
    for path, prompt in ((COMPLETIONS, {"prompt": "x"}), (CHAT, {"messages": USER})):
        error = error_of(server.post(path, {**prompt, field: value}))
        assert f"`{field}` is not supported" in error["message"]


def test_unknown_and_harmless_fields_are_ignored(server: Running) -> None:
    harmless = {"tools": [], "response_format": {"type": "text"}, "tool_choice": "none"}
    unknown = {"store": True, "metadata": {"a": "b"}, "service_tier": "auto", "zzz": [1]}
    nulls = dict.fromkeys(["stop", "seed", "temperature", "stream_options", "logit_bias", "n"])
    body = {"messages": USER, "max_tokens": 1, **harmless, **unknown, **nulls}
    assert server.post(CHAT, body).status_code == 200


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (None, ["`messages` is missing"]),
        ([], ["not empty"]),
        ("Hi", ["array of messages"]),
        (["Hi"], ["`messages[0]`", "object"]),
        ([{"content": "Hi"}], ["`messages[0].role`"]),
        ([{"role": 3, "content": "Hi"}], ["`messages[0].role`", "3"]),
        ([{"role": "user"}], ["`messages[0].content` is missing"]),
        ([{"role": "user", "content": 5}], ["[0].content", "5"]),
        ([*USER, {"role": "user", "content": [{"type": "image_url"}]}], ["[1].content[0]", "text"]),
        ([{"role": "user", "content": [{"type": "text"}]}], ["[0].content[0].text"]),
        ([{"role": "wizard", "content": "Hi"}], ["the role `wizard` is not known"]),
    ],
)
def test_wrong_messages_are_pointed_at(server: Running, messages, words) -> None:
    error = error_of(server.post(CHAT, {"messages": messages}))
    assert error["param"] == "messages"
    for word in words:
        assert word in error["message"], error["message"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"top_logprobs": 2}, ["needs `logprobs: true`"]),
        ({"logprobs": 1}, ["boolean"]),
        ({"continue_final_message": True}, ["add_generation_prompt: false"]),
        ({"chat_template_kwargs": {"tokenize": True}}, ["cannot set `tokenize`"]),
        ({"chat_template_kwargs": {"add_generation_prompt": True}}, ["cannot set"]),
        ({"chat_template": "{{ 1 }}"}, ["`chat_template` is not supported"]),
    ],
)
def test_wrong_chat_fields(server: Running, fields, words) -> None:
    error = error_of(server.post(CHAT, {"messages": USER, **fields}))
    for word in words:
        assert word in error["message"], error["message"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", ["not valid JSON", "line 1 column 0"]),
        (b'{"prompt": "x",\n "max_tokens": }', ["line 2 column 16"]),
        (b"[1, 2]", ["must be a JSON object"]),
        (b'{"prompt": "\xff"}', ["not valid JSON", "column"]),
        (b'{"prompt": "\\ud800"}', ["not valid JSON"]),
        (b'{"prompt": "x", "temperature": NaN}', ["finite"]),
        (b'{"prompt": "x", "temperature": 1e999}', ["finite"]),
        (b'{"prompt": "x", "logit_bias": {"1": Infinity}}', ["finite"]),
        (b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", ["number out of range"]),
        (b'{"prompt": "x", "zzz": ' + b"[" * 100_000, ["recursion limit"]),
        (b'{"prompt": ' + b"[" * 150 + b"]" * 150 + b"}", ["array of token ids"]),
    ],
)
def test_broken_json(server: Running, raw: bytes, words) -> None:
    error = error_of(server.client.post(COMPLETIONS, content=raw))
    for word in words:
        assert word in error["message"], error["message"]


def test_several_mistakes_are_told_at_once(server: Running) -> None:
    error = error_of(server.post(COMPLETIONS, {"prompt": "x", "n": 0, "top_p": "a"}))
    assert "`n`" in error["message"]
    assert "`top_p`" in error["message"]


def test_a_long_value_is_cut_in_the_message(server: Running) -> None:
    error = error_of(server.post(COMPLETIONS, {"prompt": "x", "max_tokens": "9" * 10_000}))
    assert len(error["message"]) < 300


class TestContext:
    def test_prompt_and_answer(self, server: Running) -> None:
        error = error_of(server.post(COMPLETIONS, {"prompt": [5] * 250, "max_tokens": 7}))
        assert error["code"] == "context_length_exceeded"
        for part in ("250 tokens", "257 together", "limit is 256", "to 6 or less"):
            assert part in error["message"], error["message"]
        assert server.post(COMPLETIONS, {"prompt": [5] * 250, "max_tokens": 6}).status_code == 200

    def test_prompt_alone(self, server: Running) -> None:
        error = error_of(server.post(COMPLETIONS, {"prompt": [5] * 256}))
        assert error["code"] == "context_length_exceeded"
        assert "shorten the prompt" in error["message"]

    def test_a_limit_of_prompts_alone(self, tiny_model: Path) -> None:
        """`engine.max_prompt_tokens`; the answer has the rest of the context."""
        with running_server(tiny_model, scheduler__max_prompt_tokens=10) as server:
            error = error_of(server.post(COMPLETIONS, {"prompt": [5] * 11, "max_tokens": 1}))
            assert error["code"] == "context_length_exceeded"
            assert "the limit is 10 for a prompt here" in error["message"]
            body = {"prompt": [5] * 10, "max_tokens": 200}
            assert server.post(COMPLETIONS, body).status_code == 200

    def test_newer_name_of_max_tokens(self, server: Running) -> None:
        body = {"messages": USER, "max_tokens": 1, "max_completion_tokens": 9999}
        assert error_of(server.post(CHAT, body))["code"] == "context_length_exceeded"

    def test_a_huge_text_is_refused_unread(self, server: Running, monkeypatch) -> None:
        """Its tokens are never counted: no token has so many characters."""
        encoded = []
        tokenizer = server.thread.server._service.tokenizer
        monkeypatch.setattr(tokenizer, "encode", lambda *given, **more: encoded.append(given))
        for path, body in (
            (COMPLETIONS, {"prompt": "x" * 900_000}),
            (CHAT, {"messages": [{"role": "user", "content": "x" * 900_000}]}),
        ):
            error = error_of(server.post(path, body))
            assert error["code"] == "context_length_exceeded"
            assert "at the very least" in error["message"]
        assert encoded == []


def test_unknown_model_names_the_served_one(server: Running) -> None:
    for path, body in ((CHAT, {"messages": USER}), (COMPLETIONS, {"prompt": "x"})):
        error = error_of(server.post(path, {**body, "model": "gpt-9"}), 404)
        assert error["code"] == "model_not_found"
        assert "`gpt-9`" in error["message"]
        assert f"`{MODEL}`" in error["message"]


def test_no_such_path_and_method(server: Running) -> None:
    assert error_of(server.client.get("/v1/nothing"), 404)["code"] == "not_found"
    response = server.client.get(CHAT)
    assert error_of(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"


def test_a_failure_of_the_core_is_a_500(server: Running) -> None:
    server.core.script = Script(error="L1 is on fire")
    error = error_of(server.post(COMPLETIONS, {"prompt": "x"}), 500)
    assert error["message"] == "L1 is on fire"
    assert error["type"] == "internal_error"


def test_a_failure_in_a_stream_is_an_error_event(server: Running) -> None:
    server.core.script = Script(error="L1 is on fire")
    with openai.OpenAI(base_url=f"{server.thread.url}/v1", api_key="none") as client:
        stream = client.completions.create(model=MODEL, prompt="x", stream=True)
        with pytest.raises(openai.APIError, match="L1 is on fire"):
            list(stream)
    lines = server.post(COMPLETIONS, {"prompt": "x", "stream": True}).text.split("\n\n")
    assert json.loads(lines[-3].removeprefix("data: "))["error"]["type"] == "internal_error"
    assert lines[-2:] == ["data: [DONE]", ""]


def test_an_internal_fault_keeps_its_details(server: Running, monkeypatch, caplog) -> None:
    def broken(chat: object) -> str:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(server.thread.server._service.tokenizer, "render", broken)
    response = server.post(CHAT, {"messages": USER}, **{"X-Request-Id": "my-request"})
    error = error_of(response, 500)
    assert "secret" not in response.text
    assert "X-Request-Id" in error["message"]
    assert response.headers["x-request-id"] == "my-request"
    [record] = [record for record in caplog.records if record.exc_info]
    assert "my-request" in record.getMessage()
    assert "secret detail" in str(record.exc_info[1])


def test_request_ids_are_kept_or_made(server: Running) -> None:
    assert server.client.get("/health", headers={"X-Request-Id": "a-1"}).headers[
        "x-request-id"
    ] == ("a-1")
    for bad in ("", "a b", "x" * 200):
        made = server.client.get("/health", headers={"X-Request-Id": bad}).headers["x-request-id"]
        assert len(made) == 32
    answer = server.post(COMPLETIONS, {"prompt": "x"}, **{"X-Request-Id": "mine"})
    assert answer.json()["id"] == "cmpl-mine"
