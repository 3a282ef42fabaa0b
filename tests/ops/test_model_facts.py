"""Models: sizes from headers alone; whatever is missing or damaged gets a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops.builders import LLAMA_CONFIG, caught, make_model, write_gguf, write_safetensors

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
        ({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM, which kvtier does not know"),
        ({"architectures": [3]}, "does not name its `architectures`"),
        ({"architectures": None}, "does not name its `architectures`"),
        ({"num_hidden_layers": None}, "`num_hidden_layers` is missing"),
        ({"hidden_size": "x"}, "`hidden_size` is not a whole number"),
        ({"num_hidden_layers": -1}, "not a whole number above 0"),
        ({"num_hidden_layers": 0}, "`num_hidden_layers` is 0"),
        ({"num_hidden_layers": 10_001}, "`num_hidden_layers` is larger than any model has"),
        ({"vocab_size": 1 << 40}, "`vocab_size` is larger than any model has"),
        ({"vocab_size": 2.0}, "`vocab_size` is not a whole number"),
        ({"num_attention_heads": [4]}, "`num_attention_heads` is not a whole number"),
        ({"num_attention_heads": 3, "num_key_value_heads": 2}, "no multiple of the 2 kv heads"),
        ({"num_attention_heads": 3, "num_key_value_heads": 3}, "no multiple of 3 heads"),
        ({"layer_types": ["full_attention"]}, "`layer_types` has 1 entries for 2 layers"),
        ({"layer_types": "full_attention"}, "`layer_types` is not a list of text"),
        ({"layer_types": ["full_attention", "x"]}, "names a layer that kvtier does not know: x"),
        ({"layer_types": ["mamba", "attention"]}, "layers with a state, which this family has not"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "`sliding_window` is missing"),
        ({"quantization_config": "awq"}, "`quantization_config` is not an object"),
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
    for shape in ([-1], ["x"], [1.5], [True], 3, None):
        write_safetensors(folder / "model.safetensors", {"a": [1]})
        _change_shape(folder / "model.safetensors", shape)
        with pytest.raises(ModelError, match="is damaged"):
            read_model(folder, "bfloat16")
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match="is damaged"):
        read_model(folder, "bfloat16")
    write_safetensors(folder / "model.safetensors", {})
    with pytest.raises(ModelError, match="with nothing in them"):
        read_model(folder, "bfloat16")
    (folder / "model.safetensors").unlink()
    for text, said in (("{", "is not JSON"), ("[" * 200_000, "is not JSON"), ("3", "no.* object")):
        (folder / "config.json").write_text(text)
        with pytest.raises(ModelError, match=said):
            read_model(folder, "bfloat16")


def _change_shape(path: Path, shape: object) -> None:
    text = path.read_bytes()[8:-2].replace(b"[1]", json.dumps(shape).encode())
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(2))


def test_without_weights_the_config_is_counted(home: Path) -> None:
    folder = make_model(home / "m")
    (folder / "model.safetensors").unlink()
    facts = read_model(folder, "bfloat16")
    layer = 64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 128 + 2 * 64
    assert facts.parameters == 2 * 256 * 64 + 2 * layer + 64
    assert (facts.parameters_from, facts.weight_bytes) == ("config", 2 * facts.parameters)
    assert facts.weights_reason == (
        f"{facts.parameters:,} parameters as bfloat16, from config.json alone"
    )
    assert facts.is_served


def test_tied_embeddings_are_counted_once(home: Path) -> None:
    folder = make_model(home / "m", tie_word_embeddings=True)
    (folder / "model.safetensors").unlink()
    tied = read_model(folder, "bfloat16").parameters
    make_model(folder)
    (folder / "model.safetensors").unlink()
    assert read_model(folder, "bfloat16").parameters == tied + 256 * 64


def test_headers_win_over_the_config(home: Path) -> None:
    facts = read_model(make_model(home / "m"), "bfloat16")
    assert (facts.parameters, facts.parameters_from) == (1000, "weights")
    assert facts.weights_reason == "1,000 parameters as bfloat16"


def test_names_that_are_not_known_are_guessed_where_fields_tell(home: Path) -> None:
    facts = read_model(make_model(home / "m", architectures=["NewForCausalLM"]), "bfloat16")
    assert facts.is_guess
    assert not facts.is_served
    assert facts.kv.groups == (KvLayers(KvKind.FULL, 2, 2, 16, 16),)
    assert facts.architecture == "NewForCausalLM"


@pytest.mark.parametrize(
    "changes",
    [
        {"use_mla": False},
        {"conv_kernel": 0},
        {"compression_config": {"bits": 4}},
        {"head_dim": 16, "v_head_dim": 16},
    ],
)
def test_fields_that_say_nothing_stand_in_no_ones_way(
    home: Path, changes: dict[str, object]
) -> None:
    changes = {"architectures": ["NewForCausalLM"], **changes}
    facts = read_model(make_model(home / "m", **changes), "bfloat16")
    assert facts.kv.groups == (KvLayers(KvKind.FULL, 2, 2, 16, 16),)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kv_lora_rank": 512}, "its `kv_lora_rank` hints at KV of another shape"),
        ({"mamba_d_state": 16}, "its `mamba_d_state` hints"),
        ({"swa_num_key_value_heads": 4}, "hints"),
        ({"num_key_value_heads": None}, "has no `num_key_value_heads`"),
        ({"is_encoder_decoder": True}, "has an encoder"),
        ({"v_head_dim": 32}, "its `v_head_dim` hints"),
        ({"full_attention_interval": 4}, "its `full_attention_interval` hints"),
        ({"architectures": ["BertForMaskedLM"]}, "does not generate text"),
        ({"architectures": ["RwkvForCausalLM"]}, "by its name it keeps other things"),
    ],
)
def test_what_is_not_guessed(home: Path, changes: dict[str, object], said: str) -> None:
    changes = {"architectures": ["NewForCausalLM"], **changes}
    with pytest.raises(ModelError, match=said):
        read_model(make_model(home / "m", **changes), "bfloat16")


def test_the_language_model_inside_of_another(home: Path) -> None:
    """By `model_type`, or guessed; fields outside of the inner config do not count."""
    inner = {"model_type": "qwen3", "head_dim": 8} | {
        name: value for name, value in LLAMA_CONFIG.items() if name != "architectures"
    }
    outer = {"architectures": ["NewForConditionalGeneration"], "num_hidden_layers": 9}
    folder = make_model(home / "m", **outer, text_config=inner)
    (folder / "model.safetensors").unlink()
    facts = read_model(folder, "bfloat16")
    assert facts.kv.groups == (KvLayers(KvKind.FULL, 2, 2, 8, 8),)
    assert not facts.is_guess
    assert facts.architecture == "NewForConditionalGeneration"
    assert facts.weights_reason.endswith("without the parts for images or sound")
    make_model(folder, **outer, text_config={**inner, "model_type": "new_text"})
    assert read_model(folder, "bfloat16").is_guess
    named = {**inner, "model_type": "new_text", "architectures": ["Qwen3ForCausalLM"]}
    make_model(folder, **outer, text_config=named)
    assert not read_model(folder, "bfloat16").is_guess
    make_model(folder, **outer, text_config={**inner, "num_hidden_layers": 0})
    with pytest.raises(ModelError, match=r"`text_config\.num_hidden_layers` is 0"):
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
