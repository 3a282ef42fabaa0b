"""The cache that transformers fills, held against what KvShape says of the same config.

Models are small, but their heads, windows, patterns and states are the published ones (windows
are cut to 8 tokens). A sliding layer of transformers' DynamicCache keeps one token less than its
window: the token that is computed next brings its own K and V. KvShape counts the whole window,
which is what an engine with pages holds at least.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ops.published import for_transformers, read, small

from kvtier_ops.model.facts import ModelFacts
from kvtier_ops.model.kv_shape import KvKind

TOKENS = 21
WINDOW = {"sliding_window": 8}
# Name of the file, and what is cut: layers, and hidden sizes where they decide the head's.
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama-2-7b", {"num_hidden_layers": 2, "hidden_size": 256}),
    ("llama-3-8b", {"num_hidden_layers": 2, "hidden_size": 256}),
    ("smollm2-135m", {"num_hidden_layers": 2, "hidden_size": 72}),
    (
        "llama-4-scout",
        {"num_hidden_layers": 4, "attention_chunk_size": 8, "num_experts_per_tok": 1},
    ),
    ("mistral-7b-v0.1", {"num_hidden_layers": 2, "hidden_size": 256, **WINDOW}),
    ("mistral-small-3.1-24b", {"num_hidden_layers": 2}),
    ("mixtral-8x7b-v0.1", {"num_hidden_layers": 2, "hidden_size": 256}),
    (
        "qwen2.5-7b",
        {
            "num_hidden_layers": 4,
            "hidden_size": 224,
            "use_sliding_window": True,
            "max_window_layers": 3,
            **WINDOW,
        },
    ),
    ("qwen1.5-moe-a2.7b", {"num_hidden_layers": 2, "hidden_size": 128}),
    ("qwen3-8b", {"num_hidden_layers": 2}),
    ("qwen3-235b-a22b", {"num_hidden_layers": 2}),
    ("qwen3-next-80b-a3b", {"num_hidden_layers": 8}),
    ("deepseek-v2-lite", {"num_hidden_layers": 2}),
    ("deepseek-v3", {"num_hidden_layers": 2, "n_routed_experts": 16}),
    ("deepseek-v3.2", {"num_hidden_layers": 2, "n_routed_experts": 16}),
    ("glm-5", {"num_hidden_layers": 2, "n_routed_experts": 16}),
    ("glm-4-9b-chat", {"num_layers": 2}),
    ("glm-4-9b-0414", {"num_hidden_layers": 2}),
    ("glm-4.5-air", {"num_hidden_layers": 2}),
    ("gemma-7b", {"num_hidden_layers": 2}),
    ("gemma-2-9b", {"num_hidden_layers": 4, **WINDOW}),
    ("gemma-3-1b", {"num_hidden_layers": 7, **WINDOW}),
    ("gemma-3-4b", {"num_hidden_layers": 7, **WINDOW}),
    (
        "gemma-3n-e4b",
        {
            "num_hidden_layers": 20,
            "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 4,
            "num_kv_shared_layers": 10,
            "vocab_size_per_layer_input": 64,
            "intermediate_size": [32] * 20,
            **WINDOW,
        },
    ),
    ("phi-2", {"num_hidden_layers": 2, "hidden_size": 640}),
    ("phi-3-mini-4k", {"num_hidden_layers": 2, "hidden_size": 256, **WINDOW}),
    ("phi-3.5-moe", {"num_hidden_layers": 2, "hidden_size": 256, **WINDOW}),
    (
        "gpt-oss-20b",
        {
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            **WINDOW,
        },
    ),
    (
        "smollm3-3b",
        {
            "num_hidden_layers": 4,
            "hidden_size": 128,
            "layer_types": ["full_attention"] * 4,
            "no_rope_layers": [1, 1, 1, 0],
        },
    ),
    ("olmo-2-7b", {"num_hidden_layers": 2, "hidden_size": 256}),
    ("falcon-7b", {"num_hidden_layers": 2, "hidden_size": 568}),
    ("gpt-neox-20b", {"num_hidden_layers": 2, "hidden_size": 512}),
    ("gpt2", {"n_layer": 2, "n_embd": 96}),
    ("mpt-7b", {"n_layers": 2, "d_model": 256}),
    ("starcoder2-3b", {"num_hidden_layers": 2, "hidden_size": 192, **WINDOW}),
    ("command-r-35b", {"num_hidden_layers": 2, "hidden_size": 512}),
    ("command-r7b", {"num_hidden_layers": 8, **WINDOW}),
    ("granite-3.1-8b", {"num_hidden_layers": 2, "hidden_size": 256}),
    (
        "granite-4.0-h-tiny",
        {
            "num_hidden_layers": 4,
            "layer_types": ["mamba", "attention", "mamba", "mamba"],
            "hidden_size": 96,
            "mamba_n_heads": 12,
            "mamba_d_head": 16,
            "shared_intermediate_size": 16,
        },
    ),
    ("jamba-v0.1", {"num_hidden_layers": 8, "hidden_size": 256}),
    (
        "nemotron-h-8b",
        {
            "num_hidden_layers": 4,
            "hybrid_override_pattern": "M-*M",
            "mamba_num_heads": 8,
            "mamba_head_dim": 16,
        },
    ),
    ("minimax-text-01", {"num_hidden_layers": 8, "attn_type_list": [0] * 7 + [1]}),
    ("minimax-m2", {"num_hidden_layers": 2}),
    (
        "lfm2-1.2b",
        {"num_hidden_layers": 4, "hidden_size": 256, "full_attn_idxs": [1, 3], "block_ff_dim": 512},
    ),
]


def _fill(config: dict[str, Any]) -> tuple[int, int]:
    """Numbers in the KV and in the states of the cache after one pass over TOKENS tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small products: threads would only wait for one another
    try:
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(for_transformers(config)).float().eval()
        with torch.no_grad():
            cache = model(torch.arange(TOKENS)[None], use_cache=True).past_key_values
    finally:
        torch.set_num_threads(threads)
    kept = [
        getattr(layer, part, None)
        for layer in cache.layers
        for part in ("keys", "values", "indexer_keys")
    ]
    states: list[Any] = list(getattr(cache, "linear_cache", []))
    for layer in cache.layers:
        for part in ("conv_states", "recurrent_states"):
            found = getattr(layer, part, None)
            states.extend(found.values() if isinstance(found, dict) else found or [])
    return _numbers(kept), _numbers(states)


def _numbers(parts: list[Any]) -> int:
    import torch

    return sum(part.numel() for part in parts if isinstance(part, torch.Tensor))


def _as_transformers(facts: ModelFacts) -> int:
    """Numbers that its sliding layers, and the others, keep of TOKENS tokens."""
    return sum(
        group.token_numbers * min(TOKENS, (group.window_tokens or TOKENS + 1) - 1)
        for group in facts.kv.groups
    )


@pytest.mark.parametrize(("name", "changes"), MODELS, ids=[name for name, _ in MODELS])
def test_cache(home: Path, name: str, changes: dict[str, Any]) -> None:
    """Also MLA: transformers keeps the latent and the rotary key, and the keys of the index."""
    config = small(name, **changes)
    facts = read(home / "m", config, "float32")
    kept, states = _fill(config)
    assert kept == _as_transformers(facts) > 0
    assert 4 * states == facts.kv.state_bytes
    sliding = sum(g.token_numbers for g in facts.kv.groups if g.kind is KvKind.SLIDING)
    assert facts.kv.sequence_bytes(TOKENS) == 4 * (kept + sliding + states)


def test_falcon_40b_is_kept_once_for_every_query_head(home: Path) -> None:
    """transformers repeats each kv head 16 times in its cache; engines do not."""
    config = small("falcon-40b", num_hidden_layers=2, hidden_size=1024)
    facts = read(home / "m", config, "float32")
    kept, states = _fill(config)
    assert (kept, states) == (16 * _as_transformers(facts), 0)
