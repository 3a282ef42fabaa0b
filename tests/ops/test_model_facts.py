"""Models: sizes from headers alone; whatever is missing or damaged gets a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops.builders import caught, make_model, write_gguf, write_safetensors

from kvtier_ops.errors import ModelError
from kvtier_ops.model.facts import read_model
from kvtier_ops.model.gguf_header import expected_bytes
from kvtier_ops.model.kv_shape import KvKind, KvLayers

GGUF = {
    "general.architecture": "llama",
    "tokenizer.ggml.tokens": ["a", "bc", ""],
    "llama.block_count": 3,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 128,
    "llama.context_length": 512,
}


def test_folder(home: Path) -> None:
    facts = read_model(make_model(home / "m"), "bfloat16")
    assert (facts.parameters, facts.weight_bytes) == (1000, 2000)
    assert facts.kv.token_bytes == 2 * 2 * 2 * 16 * 2
    assert read_model(home / "m", "float32").kv.item_bytes == 4


def test_defaults_of_config_json(home: Path) -> None:
    facts = read_model(make_model(home / "m", num_key_value_heads=None, head_dim=32), "bfloat16")
    assert facts.kv.groups == (KvLayers(KvKind.FULL, 2, 4, 32, 32),)


def test_shards(home: Path) -> None:
    folder = make_model(home / "m")
    write_safetensors(folder / "2.safetensors", {"c": [7]})
    index = {"weight_map": {"a": "model.safetensors", "c": "2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_model(folder, "bfloat16").parameters == 1007
    (folder / "2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks 1 of 2 files of weights: 2\.safetensors"):
        read_model(folder, "bfloat16")


def test_gguf(home: Path) -> None:
    path = write_gguf(home / "m.gguf", GGUF, {"token_embd.weight": [64, 100], "x": [3]})
    facts = read_model(path, "float16")
    assert (facts.parameters, facts.vocab, facts.layers) == (6403, 100, 3)
    assert facts.architecture == "LlamaForCausalLM"
    assert expected_bytes(path) > path.stat().st_size


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "a MambaForCausalLM, which kvtier does not"),
        ({"architectures": None}, "does not name its `architectures`"),
        ({"num_hidden_layers": None}, "`num_hidden_layers` is missing"),
        ({"hidden_size": "x"}, "`hidden_size` is not a whole number"),
        ({"num_hidden_layers": -1}, "not a whole number above 0"),
    ],
)
def test_wrong_configs(home: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_model(make_model(home / "m", **changes), "bfloat16")
    assert said in str(caught.value)


def test_missing_and_damaged_files(home: Path) -> None:
    with pytest.raises(ModelError, match="there is no model"):
        read_model(home / "none", "bfloat16")
    folder = make_model(home / "m")
    write_safetensors(folder / "model.safetensors", {"a": [20]}, data_bytes=10)
    with pytest.raises(ModelError, match="is cut off"):
        read_model(folder, "bfloat16")
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match="is damaged"):
        read_model(folder, "bfloat16")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        read_model(folder, "bfloat16")
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        read_model(folder, "bfloat16")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damaged_gguf_is_told_or_read_never_a_traceback(home: Path, data: st.DataObject) -> None:
    path = write_gguf(home / "m.gguf", GGUF, {"token_embd.weight": [64, 100]})
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(1, len(raw)))])
    error = caught(ModelError, lambda: read_model(path, "bfloat16"))
    assert error is None or str(error)
