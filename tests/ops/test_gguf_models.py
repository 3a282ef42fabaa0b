"""GGUF: the same shapes as from config.json, under llama.cpp's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops.builders import caught, write_gguf
from ops.published import config_of, read, text_of

from kvtier_ops.errors import ModelError
from kvtier_ops.model.facts import ModelFacts, read_model

# Name in GGUF -> a published model of that architecture.
MODELS = {
    "chatglm": "glm-4-9b-chat",
    "cohere2": "command-r7b",
    "command-r": "command-r-35b",
    "deepseek2": "deepseek-v3",
    "falcon": "falcon-40b",
    "gemma": "gemma-7b",
    "gemma2": "gemma-2-9b",
    "gemma3": "gemma-3-27b",
    "gemma3n": "gemma-3n-e4b",
    "glm4": "glm-4-9b-0414",
    "glm4moe": "glm-4.5-air",
    "gpt-oss": "gpt-oss-20b",
    "gpt2": "gpt2",
    "gptneox": "gpt-neox-20b",
    "granite": "granite-3.1-8b",
    "internlm2": "internlm2.5-7b",
    "llama": "mixtral-8x7b-v0.1",
    "llama4": "llama-4-scout",
    "mpt": "mpt-7b",
    "olmo2": "olmo-2-7b",
    "phi2": "phi-2",
    "phi3": "phi-4",
    "phimoe": "phi-3.5-moe",
    "qwen2": "qwen2.5-7b",
    "qwen2moe": "qwen1.5-moe-a2.7b",
    "qwen3": "qwen3-8b",
    "qwen3moe": "qwen3-235b-a22b",
    "smollm3": "smollm3-3b",
    "starcoder2": "starcoder2-3b",
}


def _metadata(name: str, facts: ModelFacts, text: dict[str, Any]) -> dict[str, Any]:
    """As llama.cpp's converter writes them."""
    first = facts.kv.groups[0]
    is_latent = "kv_lora_rank" in text
    fields = {
        "block_count": facts.layers,
        "attention.head_count": facts.query_heads,
        "attention.head_count_kv": facts.query_heads if is_latent else first.heads,
        "attention.key_length": facts.head_dim,
        "attention.value_length": text.get("v_head_dim", facts.head_dim),
        "embedding_length": facts.hidden,
        "feed_forward_length": facts.ffn,
        "context_length": facts.max_context_tokens,
        "attention.sliding_window": first.window_tokens if name != "llama4" else None,
        "attention.chunk_size": first.window_tokens if name == "llama4" else None,
        "attention.shared_kv_layers": text.get("num_kv_shared_layers"),
        "attention.kv_lora_rank": text.get("kv_lora_rank"),
        "attention.q_lora_rank": text.get("q_lora_rank"),
        "rope.dimension_count": text.get("qk_rope_head_dim"),
        "expert_count": next((text[key] for key in _EXPERTS if key in text), 0),
        "expert_used_count": text.get("num_experts_per_tok"),
        "expert_feed_forward_length": text.get("moe_intermediate_size"),
        "leading_dense_block_count": text.get("first_k_dense_replace"),
    }
    if name == "llama4":
        fields["expert_feed_forward_length"] = text["intermediate_size"]
    found = {f"{name}.{key}": value for key, value in fields.items() if value is not None}
    return {"general.architecture": name, **found}


_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def _write(home: Path, name: str) -> tuple[ModelFacts, dict[str, Any], Path]:
    config = config_of(MODELS[name])
    facts = read(home / "m", config)
    metadata = _metadata(name, facts, text_of(config))
    tensors = {"token_embd.weight": [facts.hidden, facts.vocab], "x": [facts.parameters]}
    return facts, metadata, write_gguf(home / "m.gguf", metadata, tensors)


@pytest.mark.parametrize("name", MODELS)
def test_same_model_as_gguf(home: Path, name: str) -> None:
    facts, _, path = _write(home, name)
    gguf = read_model(path, "bfloat16")
    assert gguf.kv == facts.kv
    assert (gguf.layers, gguf.query_heads, gguf.head_dim, gguf.hidden, gguf.vocab) == (
        facts.layers,
        facts.query_heads,
        facts.head_dim,
        facts.hidden,
        facts.vocab,
    )
    assert gguf.parameters == facts.parameters + facts.vocab * facts.hidden
    idle = facts.parameters - facts.active_parameters
    # Biases of gpt-oss' experts included: the same rule counts both.
    assert gguf.parameters - gguf.active_parameters == idle
    assert not gguf.is_guess


def test_mla_of_newer_files(home: Path) -> None:
    """They keep the latent as the one kv head, and name the heads' own lengths apart."""
    facts, metadata, path = _write(home, "deepseek2")
    newer = {
        **metadata,
        "deepseek2.attention.head_count_kv": 1,
        "deepseek2.attention.key_length": 576,
        "deepseek2.attention.value_length": 512,
        "deepseek2.attention.key_length_mla": 192,
        "deepseek2.attention.value_length_mla": 128,
    }
    write_gguf(path, newer, {"token_embd.weight": [facts.hidden, facts.vocab]})
    assert read_model(path, "bfloat16").kv == facts.kv
    assert read_model(path, "bfloat16").head_dim == 192


def test_a_width_for_every_layer(home: Path) -> None:
    facts, metadata, path = _write(home, "gemma3n")
    metadata["gemma3n.feed_forward_length"] = [16_384] * 35
    write_gguf(path, metadata, {"token_embd.weight": [facts.hidden, facts.vocab]})
    assert read_model(path, "bfloat16").ffn == 16_384


def test_only_a_llama_without_experts_is_served(home: Path) -> None:
    _, metadata, path = _write(home, "llama")
    tensors = {"token_embd.weight": [4096, 32000]}
    assert read_model(path, "bfloat16").architecture == "MixtralForCausalLM"
    assert not read_model(path, "bfloat16").is_served
    metadata["llama.expert_count"] = 0
    write_gguf(path, metadata, tensors)
    assert read_model(path, "bfloat16").is_served


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"general.architecture": "rwkv7"}, "is a rwkv7, which kvtier does not know as GGUF"),
        ({"general.architecture": 3}, "does not name its `general.architecture`"),
        ({"qwen3.block_count": 0}, "`qwen3.block_count` is 0"),
        ({"qwen3.attention.head_count": 3}, "`qwen3.attention.head_count` is 3, no multiple of"),
        ({"qwen3.attention.key_length": "x"}, "`qwen3.attention.key_length` is not a whole number"),
        ({"qwen3.context_length": ["x"]}, "`qwen3.context_length` is missing"),
        ({"qwen3.feed_forward_length": [0, 0]}, "`qwen3.feed_forward_length` is 0"),
        ({"split.count": 3}, "is one of 3 files of a model"),
    ],
)
def test_damaged_metadata(home: Path, change: dict[str, Any], said: str) -> None:
    _, metadata, path = _write(home, "qwen3")
    write_gguf(path, {**metadata, **change}, {"token_embd.weight": [4096, 9]})
    with pytest.raises(ModelError) as error:
        read_model(path, "bfloat16")
    assert said in str(error.value)
    assert error.value.problems[0].hint


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(sorted(MODELS)), st.data())
def test_mutations_are_read_or_refused(home: Path, name: str, data: st.DataObject) -> None:
    facts, metadata, path = _write(home, name)
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(sorted(metadata)))
        metadata[key] = data.draw(
            st.sampled_from([0, 1, 7, (1 << 32) - 1, "x", "", 1.5, float("nan"), [], ["x"], [0, 3]])
        )
    write_gguf(path, metadata, {"token_embd.weight": [facts.hidden, facts.vocab]})
    error = caught(ModelError, lambda: read_model(path, "bfloat16"))
    assert error is None or str(error)
