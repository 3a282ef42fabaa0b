"""Bytes of weights: plain or quantized, counted from a config or measured in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ops.builders import make_model, write_gguf, write_safetensors
from ops.published import config_of, read

from kvtier_ops.errors import ModelError
from kvtier_ops.model.facts import read_model

QWEN = {"architectures": ["Qwen3ForCausalLM"], "head_dim": 16}
# Of the tiny model: its linear layers, and all of its weights.
MATRICES = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
TOTAL = MATRICES + 2 * (2 * 64 + 2 * 16) + 2 * 256 * 64 + 64


def _without_weights(folder: Path, **changes: Any) -> Path:
    make_model(folder, **{**QWEN, **changes})
    (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.parametrize(
    ("quantization", "bits", "named"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 128**2, "fp8"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128, "awq of 4 bits"),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8, "gptq of 8 bits"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5, "bitsandbytes of 4 bits"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8, "bitsandbytes of 8 bits"),
        (
            {
                "quant_method": "bitsandbytes",
                "load_in_4bit": True,
                "bnb_4bit_use_double_quant": True,
            },
            4.127,
            "bitsandbytes of 4 bits",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32}}},
            },
            4.5,
            "compressed-tensors of 4 bits",
        ),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4.5, "nvfp4"),
    ],
)
def test_quantized_from_the_config(
    home: Path, quantization: dict[str, Any], bits: float, named: str
) -> None:
    """Only the linear layers shrink."""
    folder = _without_weights(home / "m", quantization_config=quantization)
    facts = read_model(folder, "bfloat16")
    assert facts.parameters == TOTAL
    shrunk = MATRICES * bits / 8
    assert facts.weight_bytes == pytest.approx((TOTAL - MATRICES) * 2 + shrunk, rel=1e-3)
    assert f"as bfloat16 and {named}, from config.json alone" in facts.weights_reason
    assert facts.is_quantized


@pytest.mark.parametrize("quantization", [{"quant_method": "new"}, {"bits": 2}, {}])
def test_a_quantization_of_unknown_size_is_not_counted_on(
    home: Path, quantization: dict[str, Any]
) -> None:
    facts = read_model(_without_weights(home / "m", quantization_config=quantization), "bfloat16")
    assert facts.weight_bytes == 2 * TOTAL
    assert "whose size kvtier does not know" in facts.weights_reason


@pytest.mark.parametrize(
    ("quantization", "said"),
    [
        ({"quant_method": 4}, r"quantization_config\.quant_method` is no text"),
        ({"quant_method": "awq", "bits": 0}, r"quantization_config\.bits` is 0"),
        ({"quant_method": "awq", "bits": 99}, "bits` is larger than any"),
        ({"quant_method": "gptq", "group_size": "x"}, "group_size` is not a whole number"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": 1}}, "a` is not an object"),
    ],
)
def test_damaged_quantizations(home: Path, quantization: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_model(_without_weights(home / "m", quantization_config=quantization), "bfloat16")


def test_published_sizes(home: Path) -> None:
    """gpt-oss-20b's files have 13.76 GB; DeepSeek-V3's 688 GB hold 14 B of further weights."""
    facts = read(home / "m", config_of("gpt-oss-20b"))
    assert facts.weight_bytes == pytest.approx(13.76e9, rel=0.005)
    assert "and mxfp4, from config.json alone" in facts.weights_reason
    deepseek = read(home / "m", config_of("deepseek-v3"))
    assert 671e9 < deepseek.weight_bytes < 675e9


def test_experts_alone_are_quantized_where_attention_is_left(home: Path) -> None:
    """As Kimi-K2-Thinking has it."""
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    quantization = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32}}},
        "ignore": ["lm_head", "re:.*self_attn.*"],
    }
    changes = {**experts, "architectures": ["Qwen3MoeForCausalLM"]}
    folder = _without_weights(home / "m", **changes, quantization_config=quantization)
    facts = read_model(folder, "bfloat16")
    small = 2 * 8 * 3 * 64 * 16
    assert facts.weight_bytes == (facts.parameters - small) * 2 + small * 9 // 16


def test_quantized_files_are_measured(home: Path) -> None:
    """What they hold are no parameters: those are counted from the config."""
    folder = make_model(home / "m", **QWEN, quantization_config={"quant_method": "new"})
    facts = read_model(folder, "bfloat16")
    assert (facts.parameters, facts.weight_bytes) == (TOTAL, 2000)
    assert facts.parameters_from == "config"
    assert facts.weights_reason == f"{TOTAL:,} parameters in 2,000 bytes, as the files hold them"


def test_the_engine_does_not_serve_a_quantized_folder(home: Path) -> None:
    """It says so itself (`model/spec.py`): then its files are measured like any other's."""
    quantization = {"quant_method": "fp8"}
    assert read_model(make_model(home / "m"), "bfloat16").is_served
    facts = read_model(make_model(home / "m", quantization_config=quantization), "bfloat16")
    assert not facts.is_served
    assert facts.weight_bytes == 2000


def test_experts_that_are_not_chosen_are_idle(home: Path) -> None:
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    changes = {**QWEN, **experts, "architectures": ["Qwen3MoeForCausalLM"]}
    counted = read_model(_without_weights(home / "m", **changes), "bfloat16")
    idle = 2 * 6 * 3 * 64 * 16
    assert counted.parameters - counted.active_parameters == idle
    write_safetensors(home / "m" / "model.safetensors", {"a": [counted.parameters]})
    measured = read_model(home / "m", "bfloat16")
    assert measured.parameters_from == "weights"
    assert measured.active_parameters == counted.active_parameters
    changes["num_experts_per_tok"] = 9
    with pytest.raises(ModelError, match="`num_experts_per_tok` is 9, of 8 experts"):
        read_model(make_model(home / "m", **changes), "bfloat16")


def test_gguf_takes_what_its_file_takes(home: Path) -> None:
    """Unless the bundled engine serves it: it unpacks all weights."""
    for name, size in (("qwen3", 4096), ("llama", 2 * 128)):
        fields = {"block_count": 1, "embedding_length": 64, "feed_forward_length": 8}
        fields |= {"attention.head_count": 4, "context_length": 9, "vocab_size": 2}
        metadata = {f"{name}.{key}": value for key, value in fields.items()}
        metadata["general.architecture"] = name
        path = write_gguf(home / "m.gguf", metadata, {"token_embd.weight": [64, 2]})
        with path.open("ab") as file:
            file.write(bytes(4096))
        assert read_model(path, "bfloat16").weight_bytes == size


def test_an_index_promises_weights(home: Path) -> None:
    folder = _without_weights(home / "m")
    index = {"weight_map": {"a": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="lacks 1 of 1 files of weights"):
        read_model(folder, "bfloat16")
