"""config.json, read with care."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvtier_engine.config import KvGeometry
from kvtier_engine.model.errors import ModelError
from kvtier_engine.model.spec import RopeSpec, read_spec

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "eos_token_id": 2,
}


def folder(tmp_path: Path, generation: dict[str, Any] | None = None, **changes: Any) -> Path:
    kept = {name: value for name, value in (LLAMA | changes).items() if value != "absent"}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    return tmp_path


def test_the_shape(tmp_path: Path) -> None:
    spec = read_spec(folder(tmp_path))
    assert (spec.layers, spec.heads, spec.kv_heads, spec.head_dim) == (3, 4, 2, 16)
    assert (spec.hidden, spec.ffn, spec.vocab, spec.max_positions) == (64, 96, 100, 512)
    assert (spec.norm_eps, spec.eos_ids, spec.rope) == (1e-5, (2,), RopeSpec(theta=10_000.0))
    assert (spec.tie_embeddings, spec.attention_bias, spec.mlp_bias) == (False, False, False)
    assert spec.geometry("float32") == KvGeometry(layers=3, kv_heads=2, head_dim=16, item_bytes=4)
    assert spec.geometry("bfloat16").item_bytes == 2


def test_defaults(tmp_path: Path) -> None:
    spec = read_spec(folder(tmp_path, num_key_value_heads="absent", head_dim=None))
    assert (spec.kv_heads, spec.head_dim) == (4, 16)


def test_generation_config_decides_what_ends_an_answer(tmp_path: Path) -> None:
    assert read_spec(folder(tmp_path, {"eos_token_id": [5, 6]})).eos_ids == (5, 6)
    assert read_spec(folder(tmp_path, {})).eos_ids == (2,)


@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
def test_rope(tmp_path: Path, key: str) -> None:
    llama3 = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.5,
        "high_freq_factor": 4.5,
        "original_max_position_embeddings": 256,
    }
    scaled = read_spec(folder(tmp_path, rope_theta=5e5, **{key: llama3})).rope
    assert scaled == RopeSpec(5e5, "llama3", 8.0, 1.5, 4.5, 256)
    old = {"type": "linear", "factor": 2.0}
    assert read_spec(folder(tmp_path, **{key: old})).rope == RopeSpec(1e4, "linear", 2.0)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "`architectures` is GPT2LMHeadModel, which is"),
        ({"architectures": None}, "`architectures` must name the model's class"),
        ({"num_hidden_layers": "absent"}, "`num_hidden_layers` is missing"),
        ({"hidden_size": -1}, "`hidden_size` must be a whole number above 0, not -1"),
        ({"vocab_size": "many"}, "`vocab_size` must be a whole number above 0, not 'many'"),
        ({"num_key_value_heads": 3}, r"`num_key_value_heads` \(3\) must divide"),
        ({"head_dim": 15}, r"`head_dim` \(15\) must be even"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "`rope_type` is 'yarn'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "`factor` is missing"),
        ({"eos_token_id": 100}, r"`eos_token_id` \[100\] lies outside vocab_size"),
        ({"eos_token_id": "</s>"}, "`eos_token_id` must be a token id"),
        ({"hidden_act": "gelu"}, "`hidden_act` must be silu"),
        ({"quantization_config": {"bits": 4}}, "`quantization_config` says"),
        ({"attention_bias": "yes"}, "`attention_bias` must be true or false"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint) as caught:
        read_spec(folder(tmp_path, **changes))
    assert str(tmp_path / "config.json") in str(caught.value)


def test_supported_architectures_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        read_spec(folder(tmp_path, architectures=["GPT2LMHeadModel"]))
    assert "LlamaForCausalLM" in caught.value.hint


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff"])
def test_damaged_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ModelError, match=r"config\.json is not (JSON|a JSON object)"):
        read_spec(tmp_path)


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json does not exist") as caught:
        read_spec(tmp_path)
    assert "model.path" in caught.value.hint
