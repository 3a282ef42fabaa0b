"""POST /v1/completions through the official client."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from support.fake_core import Script
from support.server_thread import MODEL, Running

from kvtier_engine.messages import CachedTokens


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.thread.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("as_ids", [False, True], ids=["text", "token ids"])
@pytest.mark.parametrize("many", [False, True], ids=["one prompt", "many prompts"])
def test_prompt_takes_four_forms(server, client, tokenizer, as_ids, many) -> None:
    texts = ["first prompt", "and the second"] if many else ["first prompt"]
    prompts = [tokenizer.encode(text, special=True) for text in texts]
    given = prompts if as_ids else texts
    answer = client.completions.create(
        model=MODEL, prompt=given if many else given[0], max_tokens=4, n=2
    )
    assert sorted(request.prompt_ids for request in server.core.requests) == sorted(prompts * 2)
    expected = [tokenizer.decode((ids * 4)[:4]) for ids in prompts for _ in range(2)]
    assert [choice.text for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == list(range(2 * len(texts)))
    assert answer.usage.prompt_tokens == sum(map(len, prompts)), "each prompt once"
    assert answer.usage.completion_tokens == 4 * 2 * len(texts)


def test_sixteen_tokens_unless_told_otherwise(server, client) -> None:
    answer = client.completions.create(model=MODEL, prompt="x")
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


def test_the_default_is_cut_to_the_context(server, client) -> None:
    answer = client.completions.create(model=MODEL, prompt=[5] * 250)
    assert answer.usage.completion_tokens == 6


def test_cached_tokens_are_those_of_each_prompt_s_first_answer(server, client) -> None:
    def by_place(request):
        place = int(request.request_id.rsplit("-", 1)[1])
        return Script(tokens=[40], cached=CachedTokens(l1=10**place))

    server.core.choose = by_place
    answer = client.completions.create(model=MODEL, prompt=["x", "y"], n=2)
    assert answer.usage.prompt_tokens_details.cached_tokens == 1 + 100


def test_logprobs_have_offsets_into_the_text(server, client, tokenizer) -> None:
    text = "a é b"
    ids = tokenizer.encode(text, special=False)
    server.core.script = Script(tokens=ids, per_output=2)
    answer = client.completions.create(model=MODEL, prompt="x", logprobs=3, max_tokens=len(ids))
    logprobs = answer.choices[0].logprobs
    assert logprobs.token_logprobs == [-0.5] * len(ids)
    assert all(1 <= len(top) <= 3 for top in logprobs.top_logprobs)
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert "\ufffd" in token or text[offset:].startswith(token)


def test_logprobs_stop_where_the_text_stops(server, client, tokenizer) -> None:
    text = "alpha beta gamma"
    server.core.script = Script(tokens=tokenizer.encode(text, special=False), ends=False)
    for stream in (False, True):
        answer = client.completions.create(
            model=MODEL, prompt="x", logprobs=0, max_tokens=99, stop="beta", stream=stream
        )
        parts = list(answer) if stream else [answer]
        assert "".join(part.choices[0].text for part in parts) == "alpha "
        offsets = [o for part in parts for o in part.choices[0].logprobs.text_offset]
        assert offsets == sorted(offsets)
        assert offsets[-1] < len("alpha ")


def test_echo_gives_the_prompt_back(server, client, tokenizer) -> None:
    server.core.script = Script(tokens=tokenizer.encode("!", special=False))
    for prompt in ("Hello é", tokenizer.encode("Hello é", special=False)):
        whole = client.completions.create(model=MODEL, prompt=prompt, echo=True)
        assert whole.choices[0].text == "Hello é!"
        chunks = client.completions.create(model=MODEL, prompt=prompt, echo=True, stream=True)
        assert "".join(chunk.choices[0].text for chunk in chunks) == "Hello é!"


def test_token_ids_are_returned_when_asked_for(server, client) -> None:
    server.core.script = Script(tokens=[40, 41], stop_token=2)
    answer = client.completions.create(
        model=MODEL, prompt=[7, 8], extra_body={"return_token_ids": True}
    )
    assert answer.choices[0].token_ids == [40, 41, 2]
    assert answer.choices[0].prompt_token_ids == [7, 8]


def test_a_stop_token_of_the_client_is_the_reason(server, client) -> None:
    server.core.script = Script(tokens=[40], stop_token=50)
    answer = client.completions.create(model=MODEL, prompt="x", extra_body={"stop_token_ids": [50]})
    assert (answer.choices[0].finish_reason, answer.choices[0].stop_reason) == ("stop", 50)


def test_usage_can_be_in_every_chunk(server, client) -> None:
    chunks = client.completions.create(
        model=MODEL,
        prompt="x",
        max_tokens=3,
        stream=True,
        extra_body={"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    )
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[-1] == 3
