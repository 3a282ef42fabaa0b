"""The official client against the quickstart model in bf16, as a user would run it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from support.engine_process import (
    EngineProcess,
    engine_config,
    running_engine,
    short_run_dir,
    wait_for,
)

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = "smollm2-135m"
CAPITAL = {"role": "user", "content": "What is the capital of France? Answer in one sentence."}


@pytest.fixture(scope="module")
def engine(
    quickstart_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineProcess]:
    disk = tmp_path_factory.mktemp("l3")
    with short_run_dir() as run_dir:
        config = engine_config(
            quickstart_model,
            run_dir,
            model__dtype="bfloat16",
            cache__l1__pages=128,
            cache__l2__pages=256,
            cache__l3__directories=[{"path": str(disk / "store"), "capacity_bytes": 1 << 30}],
        )
        with running_engine(config) as engine:
            yield engine


@pytest.fixture(scope="module")
def client(engine: EngineProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_multi_turn_chat(client):
    turns = [CAPITAL]
    first = client.chat.completions.create(
        model=MODEL, messages=turns, temperature=0, max_tokens=40
    )
    assert "Paris" in first.choices[0].message.content
    assert first.choices[0].finish_reason == "stop"
    turns += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "Write three sentences about that city. " * 8},
    ]
    second = client.chat.completions.create(
        model=MODEL, messages=turns, temperature=0, max_tokens=24
    )
    assert second.usage.prompt_tokens > first.usage.prompt_tokens
    turns += [
        {"role": "assistant", "content": second.choices[0].message.content},
        {"role": "user", "content": "Thank you."},
    ]
    third = client.chat.completions.create(model=MODEL, messages=turns, temperature=0, max_tokens=8)
    assert third.usage.prompt_tokens_details.cached_tokens >= 64


def test_streaming_gives_the_same_text(client):
    whole = client.chat.completions.create(
        model=MODEL, messages=[CAPITAL], temperature=0, max_tokens=30
    )
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=[CAPITAL],
            temperature=0,
            max_tokens=30,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_two_answers_to_one_prompt(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=[CAPITAL], n=2, seed=1, temperature=1.5, max_tokens=20
    )
    assert [c.index for c in answer.choices] == [0, 1]
    assert answer.choices[0].message.content != answer.choices[1].message.content


def test_stop_string_ends_the_answer_before_it(client):
    answer = client.completions.create(
        model=MODEL, prompt="1, 2, 3, 4, 5,", temperature=0, max_tokens=40, stop=["9"]
    )
    assert answer.choices[0].finish_reason == "stop"
    assert "8" in answer.choices[0].text
    assert "9" not in answer.choices[0].text


def test_logprobs(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=[CAPITAL], temperature=0, max_tokens=5, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert token.logprob <= 0
        assert token.token == token.top_logprobs[0].token  # greedy
        assert [t.logprob for t in token.top_logprobs] == sorted(
            (t.logprob for t in token.top_logprobs), reverse=True
        )


def test_a_seed_makes_sampling_repeatable(client):
    def draw(seed: int) -> str:
        answer = client.completions.create(
            model=MODEL, prompt="Once upon a time", temperature=1.2, seed=seed, max_tokens=24
        )
        return answer.choices[0].text

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_32_conversations_at_once(client, engine):
    def talk(number: int) -> tuple[str, str]:
        question = {"role": "user", "content": f"Count from {number} to {number + 3}."}
        texts = []
        for _ in range(2):
            answer = client.chat.completions.create(
                model=MODEL, messages=[question], temperature=0, max_tokens=16
            )
            texts.append(answer.choices[0].message.content)
        return texts[0], texts[1]

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(talk, range(32)))
    assert len(answers) == 32
    assert all(first for first, _ in answers)
    engine.wait_idle()
    assert engine.metric("pages_held", tier="l1") == 0


def test_cancel_in_the_middle_frees_the_pages(client, engine):
    stream = client.completions.create(
        model=MODEL,
        prompt="Tell me a long story.",
        max_tokens=1500,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    for number, _ in enumerate(stream):
        if number == 3:
            break
    wait_for(lambda: engine.metric("pages_held", tier="l1") > 0, "pages in use")
    stream.close()
    wait_for(lambda: engine.metric("requests_running") == 0, "the request to be cancelled", 20)
    engine.wait_idle()
    assert engine.metric("pages_held", tier="l1") == 0


def test_mistakes_are_explained(client):
    with pytest.raises(NotFoundError, match="smollm2-135m"):
        client.completions.create(model="gpt-4", prompt="Hello")
    with pytest.raises(BadRequestError, match="2048"):
        client.completions.create(model=MODEL, prompt="Hello", max_tokens=5000)
    with pytest.raises(BadRequestError, match="temperature"):
        client.completions.create(model=MODEL, prompt="Hello", temperature=-1)


def test_the_readme_s_examples_run(engine, capsys):
    readme = (ROOT / "README.md").read_text()
    [python] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    exec(compile(python.replace("http://127.0.0.1:8000", engine.url), "README.md", "exec"), {})
    assert "cached_tokens" in capsys.readouterr().out
    [curl] = re.findall(r"^    (curl .*?}')$", readme, re.DOTALL | re.MULTILINE)
    answer = subprocess.run(
        curl.replace("http://127.0.0.1:8000", engine.url) + " --silent --show-error",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"]
