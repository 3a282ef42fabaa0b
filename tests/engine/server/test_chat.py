"""POST /v1/chat/completions through the official client."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from support.fake_core import Script
from support.server_thread import MODEL, Running

from kvtier_engine.messages import CachedTokens
from kvtier_engine.server.text.tokenizer import Tokenizer

USER = [{"role": "user", "content": "How are you?"}]
PROMPT = "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.thread.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def say(server: Running, tokenizer: Tokenizer, text: str, **script: object) -> list[int]:
    """Makes the core answer `text`; its token ids."""
    ids = tokenizer.encode(text, special=False)
    server.core.script = Script(tokens=ids, **script)
    return ids


def test_answers_in_openai_s_shape(server, client, tokenizer) -> None:
    ids = say(server, tokenizer, "Fine, thanks.", stop_token=2, cached=CachedTokens(3, 2, 1))
    answer = client.chat.completions.create(model=MODEL, messages=USER)
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Fine, thanks.")
    assert choice.finish_reason == "stop"
    prompt = tokenizer.encode(PROMPT, special=False)
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.usage.completion_tokens == len(ids) + 1
    assert answer.usage.total_tokens == len(prompt) + len(ids) + 1
    assert answer.usage.prompt_tokens_details.cached_tokens == 6
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    [request] = server.core.requests
    assert request.prompt_ids == prompt
    assert request.params.max_tokens == 256 - len(prompt), "the rest of the context"


def test_stream_gives_the_same_answer_in_pieces(server, client, tokenizer) -> None:
    text = "Grüße 🌍, und 東京 auch."
    say(server, tokenizer, text, stop_token=2)
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=USER, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert [c.choices[0].finish_reason for c in chunks if c.choices].count("stop") == 1
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == []
    assert len({chunk.id for chunk in chunks}) == 1


def test_n_answers_have_their_own_seed_and_end(server, client, tokenizer) -> None:
    def by_seed(request):
        text = {7: "one", 8: "two of them", 9: "three"}[request.params.seed]
        return Script(tokens=tokenizer.encode(text, special=False), stop_token=2)

    server.core.choose = by_seed
    answer = client.chat.completions.create(model=MODEL, messages=USER, n=3, seed=7)
    assert [c.message.content for c in answer.choices] == ["one", "two of them", "three"]
    assert [c.index for c in answer.choices] == [0, 1, 2]
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=USER, n=3, seed=7, stream=True)
    )
    texts = ["", "", ""]
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == ["one", "two of them", "three"]
    finished = [c.choices[0].index for c in chunks if c.choices[0].finish_reason]
    assert sorted(finished) == [0, 1, 2], "exactly one end each"


def test_logprobs_agree_with_the_text(server, client, tokenizer) -> None:
    ids = say(server, tokenizer, "é is", stop_token=2)
    for stream in (False, True):
        answer = client.chat.completions.create(
            model=MODEL, messages=USER, logprobs=True, top_logprobs=2, stream=stream
        )
        entries = []
        for part in answer if stream else [answer]:
            logprobs = part.choices[0].logprobs
            entries += logprobs.content if logprobs else []
        assert len(entries) == len(ids), "the token that ends the answer is not part of it"
        assert bytes(b for entry in entries for b in entry.bytes).decode() == "é is"
        assert [len(entry.top_logprobs) for entry in entries] == [2] * len(ids)
        assert entries[0].logprob == -0.5


def test_content_may_be_text_parts(server, client, tokenizer) -> None:
    parts = [{"type": "text", "text": "How are"}, {"type": "text", "text": "you?"}]
    client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": parts}], max_tokens=1
    )
    expected = PROMPT.replace("How are you?", "How are\nyou?")
    assert tokenizer.decode(server.core.requests[0].prompt_ids) == expected


def test_template_options_reach_the_template(server, client, tokenizer) -> None:
    client.chat.completions.create(
        model=MODEL,
        messages=USER,
        max_tokens=1,
        extra_body={"chat_template_kwargs": {"prefix": "Well"}},
    )
    assert tokenizer.decode(server.core.requests[0].prompt_ids) == PROMPT + "Well"


def test_the_final_message_can_be_continued(server, client, tokenizer) -> None:
    client.chat.completions.create(
        model=MODEL,
        messages=[*USER, {"role": "assistant", "content": "I am"}],
        max_tokens=1,
        extra_body={"continue_final_message": True, "add_generation_prompt": False},
    )
    assert tokenizer.decode(server.core.requests[0].prompt_ids) == PROMPT + "I am"


def test_parameters_reach_the_core(server, client) -> None:
    client.chat.completions.create(
        model=MODEL,
        messages=USER,
        max_completion_tokens=5,
        temperature=0.3,
        top_p=0.9,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        seed=11,
        logit_bias={"12": -100},
        user="somebody",
        extra_body={
            "top_k": 5,
            "min_p": 0.1,
            "repetition_penalty": 1.2,
            "stop_token_ids": [9],
            "ignore_eos": True,
            "min_tokens": 2,
            "cache_salt": "tenant",
            "no_such_field": 1,
        },
    )
    [request] = server.core.requests
    params = request.params
    assert (params.max_tokens, params.min_tokens, params.seed) == (5, 2, 11)
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.3, 0.9, 5, 0.1)
    assert (params.presence_penalty, params.frequency_penalty) == (0.5, -0.5)
    assert (params.repetition_penalty, params.logit_bias) == (1.2, {12: -100})
    assert (params.stop_token_ids, params.ignore_eos) == ((9,), True)
    assert request.salt == "tenant"


def test_stop_string_cuts_the_text_and_aborts_the_sequence(server, client, tokenizer) -> None:
    say(server, tokenizer, "one, two, three, four", ends=False)
    answer = client.chat.completions.create(model=MODEL, messages=USER, stop=[", three", "zzz"])
    [choice] = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("one, two", "stop")
    server.core.wait_for(lambda _: server.core.aborted == [server.core.requests[0].request_id])
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=USER, stop=", three", stream=True)
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "one, two"


def test_the_stop_string_can_be_part_of_the_text(server, client, tokenizer) -> None:
    say(server, tokenizer, "one, two, three", ends=False)
    answer = client.chat.completions.create(
        model=MODEL,
        messages=USER,
        stop=" two",
        extra_body={"include_stop_str_in_output": True},
    )
    assert answer.choices[0].message.content == "one, two"


def test_special_tokens_are_hidden_unless_asked_for(server, client) -> None:
    server.core.script = Script(tokens=[1, 40, 1], stop_token=2)
    hidden = client.chat.completions.create(model=MODEL, messages=USER)
    shown = client.chat.completions.create(
        model=MODEL, messages=USER, extra_body={"skip_special_tokens": False}
    )
    text = hidden.choices[0].message.content
    assert shown.choices[0].message.content == f"<|im_start|>{text}<|im_start|>"


def test_many_at_once_are_not_mixed_up(server, tokenizer) -> None:
    import asyncio

    async def ask(client: openai.AsyncOpenAI, place: int) -> None:
        text = f"number {place} of many"
        answer = await client.completions.create(model=MODEL, prompt=text, max_tokens=40)
        length = len(tokenizer.encode(text, special=False))
        expected = (tokenizer.encode(text, special=False) * 40)[:40]
        assert length > 1
        assert answer.choices[0].text == tokenizer.decode(expected)

    async def all_of_them() -> None:
        async with openai.AsyncOpenAI(
            base_url=f"{server.thread.url}/v1", api_key="none", max_retries=0
        ) as client:
            await asyncio.gather(*(ask(client, place) for place in range(32)))

    asyncio.run(all_of_them())
