"""Logits are transformers' own: alone, batched, chunked, for every variant of the family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import (
    Feeder,
    make_runner,
    random_prompt,
    reference_logits,
    small_llama,
)

TOLERANCE = 1e-4
LENGTHS = (1, 2, 15, 16, 17, 130, 777, 2000)
VARIANTS: dict[str, dict[str, Any]] = {
    "biases": {"attention_bias": True, "mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
    "one query head a kv head": {"num_key_value_heads": 6},
    "heads wider than hidden": {"head_dim": 64},
    "head_dim that the kernels do not take": {"head_dim": 20},
    "linear rope": {
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e4},
    },
    "llama3 rope": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
        },
    },
}


def attentions(device: str) -> tuple[str, ...]:
    return ("native", "torch") if device == "cpu" else ("torch",)


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    return [random_prompt(tokens, seed=tokens) for tokens in LENGTHS]


@pytest.fixture(scope="module")
def wanted(model: Path, prompts: list[list[int]]) -> list[torch.Tensor]:
    return [reference_logits(model, prompt) for prompt in prompts]


def test_each_prompt_alone(
    model: Path, prompts: list[list[int]], wanted: list[torch.Tensor], device: str
) -> None:
    for attention in attentions(device):
        feeder = Feeder(make_runner(model, attention=attention, device=device))
        for prompt, want in zip(prompts, wanted, strict=True):
            [logits] = feeder.logits([prompt], cuts=[])
            torch.testing.assert_close(logits, want, rtol=0, atol=TOLERANCE)


def test_all_prompts_in_one_batch(
    model: Path, prompts: list[list[int]], wanted: list[torch.Tensor], device: str
) -> None:
    for attention in attentions(device):
        runner = make_runner(model, attention=attention, device=device)
        for cuts in ([], [1], [16, 32, 777, 778, 1500]):
            found = Feeder(runner).logits(prompts, cuts)
            for logits, want in zip(found, wanted, strict=True):
                torch.testing.assert_close(logits, want, rtol=0, atol=TOLERANCE)


def test_small_chunks(model: Path, device: str) -> None:
    prompt = random_prompt(600)
    feeder = Feeder(make_runner(model, device=device))
    [logits] = feeder.logits([prompt], cuts=range(37, 600, 37))
    torch.testing.assert_close(logits, reference_logits(model, prompt), rtol=0, atol=TOLERANCE)


def test_token_by_token(model: Path, device: str) -> None:
    prompt = random_prompt(70)
    feeder = Feeder(make_runner(model, device=device))
    [logits] = feeder.logits([prompt], cuts=range(1, 70))
    torch.testing.assert_close(logits, reference_logits(model, prompt), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants(tmp_path: Path, changes: dict[str, Any], device: str) -> None:
    folder = small_llama(tmp_path, **changes)
    prompt = random_prompt(600)
    feeder = Feeder(make_runner(folder, device=device))
    [logits] = feeder.logits([prompt], cuts=[123])
    torch.testing.assert_close(logits, reference_logits(folder, prompt), rtol=0, atol=TOLERANCE)


def test_the_quickstart_model(quickstart_model: Path) -> None:
    prompt = random_prompt(2000, vocab=49_000)
    rows = [0, 1, 63, 64, 500, 1000, 1998, 1999]
    want = reference_logits(quickstart_model, prompt, rows)
    feeder = Feeder(make_runner(quickstart_model, page_tokens=64))
    whole = feeder.runner.forward([feeder.chunk(0, 0, prompt, False)], rows)
    torch.testing.assert_close(whole, want, rtol=0, atol=TOLERANCE)
    for start, end in ((0, 512), (512, 1111), (1111, 1999)):
        feeder.runner.forward([feeder.chunk(1, start, prompt[start:end], False)], [])
    last = feeder.runner.forward([feeder.chunk(1, 1999, prompt[1999:], False)], [0])
    torch.testing.assert_close(last, want[-1:], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_bits_however_chunked_or_batched(model: Path, dtype: str) -> None:
    """The CPU kernels' promise, which makes a cached answer the cold one's twin."""
    prompts = [random_prompt(tokens, seed=tokens) for tokens in (300, 33, 1)]
    feeder = Feeder(make_runner(model, attention="native", dtype=dtype))
    alone = [feeder.logits([prompt], cuts=[])[0] for prompt in prompts]
    for cuts in ([], [1, 2, 3], [64, 128], [299]):
        for logits, want in zip(feeder.logits(prompts, cuts), alone, strict=True):
            assert torch.equal(logits, want)
