"""The config.json files of published models, and models of the same shape that are small."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvtier_ops.model.facts import ModelFacts, read_model

MODELS = Path(__file__).parent.parent / "data" / "models"
NAMES = sorted(path.stem for path in MODELS.glob("*.json"))

# What makes a model small, in fields that have no say in its KV.
_SMALL: Mapping[str, int] = {
    "vocab_size": 64,
    "padded_vocab_size": 64,
    "intermediate_size": 32,
    "ffn_hidden_size": 32,
    "intermediate_size_mlp": 32,
    "hidden_size": 64,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 512,
    "q_lora_rank": 16,
    "first_k_dense_replace": 1,
}
# Those that transformers does not have under their own names.
_MODEL_TYPES = {"chatglm": "glm", "kimi_k2": "deepseek_v3", "minimax_text_01": "minimax"}


def config_of(name: str) -> dict[str, Any]:
    config = json.loads((MODELS / f"{name}.json").read_text())
    assert isinstance(config, dict)
    return config


def read(folder: Path, config: Mapping[str, Any], dtype: Any = "bfloat16") -> ModelFacts:
    """As kvtier reads a folder with nothing else in it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return read_model(folder, dtype)


def text_of(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that describes the language model."""
    text = config.get("text_config", config)
    assert isinstance(text, dict)
    return text


def small(name: str, **changes: Any) -> dict[str, Any]:
    """The same heads, windows and states; little else. `changes` are of the language model."""
    config = config_of(name)
    config.pop("quantization_config", None)
    text = text_of(config)
    text.update({field: value for field, value in _SMALL.items() if text.get(field)})
    text.update(changes)
    return config


def for_transformers(config: dict[str, Any]) -> Any:
    """transformers' own configuration of the language model."""
    from transformers import CONFIG_MAPPING

    text = dict(text_of(config))
    kind = text.pop("model_type")
    for field in ("_source", "architectures", "quantization_config"):
        text.pop(field, None)
    if kind == "chatglm":
        text |= {
            "num_hidden_layers": text["num_layers"],
            "head_dim": text["kv_channels"],
            "num_key_value_heads": text["multi_query_group_num"],
            "intermediate_size": text["ffn_hidden_size"],
        }
    if kind == "minimax_text_01":
        kinds = {0: "linear_attention", 1: "full_attention"}
        text["layer_types"] = [kinds[number] for number in text["attn_type_list"]]
    tokens = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    return CONFIG_MAPPING[_MODEL_TYPES.get(kind, kind)](**text, **tokens)
