"""GGUF's metadata under the names of config.json.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; names of the architectures are
llama.cpp's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvtier_ops.errors import ModelError
from kvtier_ops.model.config_json import AGAIN, Config
from kvtier_ops.model.gguf_header import GgufHeader

_ARCHITECTURES: Mapping[str, str] = {
    "chatglm": "ChatGLMModel",
    "cohere2": "Cohere2ForCausalLM",
    "command-r": "CohereForCausalLM",
    "deepseek2": "DeepseekV2ForCausalLM",
    "falcon": "FalconForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
    "gemma3n": "Gemma3nForCausalLM",
    "glm4": "Glm4ForCausalLM",
    "glm4moe": "Glm4MoeForCausalLM",
    "gpt-oss": "GptOssForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "gptneox": "GPTNeoXForCausalLM",
    "granite": "GraniteForCausalLM",
    "granitemoe": "GraniteMoeForCausalLM",
    "internlm2": "InternLM2ForCausalLM",
    "llama": "LlamaForCausalLM",
    "llama4": "Llama4ForCausalLM",
    "mistral3": "Ministral3ForCausalLM",
    "mpt": "MPTForCausalLM",
    "olmo": "OlmoForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "olmoe": "OlmoeForCausalLM",
    "phi2": "PhiForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "phimoe": "PhimoeForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen2moe": "Qwen2MoeForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3moe": "Qwen3MoeForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "stablelm": "StableLmForCausalLM",
    "starcoder2": "Starcoder2ForCausalLM",
}
# One spelling for all families, so a family's own spellings of config.json do not count here.
_FIELDS: Mapping[str, str] = {
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "vocab_size": "vocab_size",
    "sliding_window": "attention.sliding_window",
    "sliding_window_pattern": "attention.sliding_window_pattern",
    "num_kv_shared_layers": "attention.shared_kv_layers",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
    "n_shared_experts": "expert_shared_count",
    "first_k_dense_replace": "leading_dense_block_count",
    "kv_lora_rank": "attention.kv_lora_rank",
    "q_lora_rank": "attention.q_lora_rank",
    "decoder_sparse_step": "interleave_moe_layer_step",
}
_LATENT_FIELDS: Mapping[str, str] = {
    "qk_rope_head_dim": "rope.dimension_count",
    "qk_nope_head_dim": "attention.key_length",
    "v_head_dim": "attention.value_length",
}


def read_gguf_config(path: Path, header: GgufHeader) -> tuple[str, Config]:
    """The architecture, named as config.json would, and the model's description.

    One that is not in the table keeps GGUF's own name. Raises ModelError.
    """
    name = header.metadata.get("general.architecture")
    if not isinstance(name, str) or not name:
        raise ModelError(f"`{path}` does not name its `general.architecture`", AGAIN)
    split = header.metadata.get("split.count", 1)
    if isinstance(split, int) and split > 1:
        hint = "merge them: `llama-gguf-split --merge FIRST.gguf WHOLE.gguf`"
        raise ModelError(f"`{path}` is one of {split} files of a model", hint)
    spelled = {ours: f"{name}.{theirs}" for ours, theirs in _FIELDS.items()}
    values: dict[str, Any] = {ours: header.metadata.get(theirs) for ours, theirs in spelled.items()}
    _fill(values, header, name)
    spelled |= {ours: f"{name}.{theirs}" for ours, theirs in _LATENT_FIELDS.items()}
    architecture = _ARCHITECTURES.get(name, name)
    if architecture == "LlamaForCausalLM" and values["num_experts"]:
        architecture = "MixtralForCausalLM"
    return architecture, Config(path, values, spelled=spelled)


def _fill(values: dict[str, Any], header: GgufHeader, name: str) -> None:
    """What GGUF says in another way than config.json."""
    embedding = header.tensors.get("token_embd.weight")
    hidden = values["hidden_size"]
    if values["vocab_size"] is None and embedding and isinstance(hidden, int):
        values["vocab_size"] = embedding.elements // max(1, hidden)
    widths = header.by_layer.get(f"{name}.feed_forward_length")  # Gemma 3n: all the same
    if values["intermediate_size"] is None and widths:
        values["intermediate_size"] = max(widths)
    if values["sliding_window"] is None:
        values["sliding_window"] = header.metadata.get(f"{name}.attention.chunk_size")
    if values["kv_lora_rank"] is None:
        return
    # MLA: `key_length` is that of a head, or, in newer files, that of the latent.
    rotary = header.metadata.get(f"{name}.rope.dimension_count")
    key = header.metadata.get(f"{name}.attention.key_length_mla", values["head_dim"])
    values["qk_rope_head_dim"] = rotary
    if isinstance(key, int) and isinstance(rotary, int):
        values["qk_nope_head_dim"] = key - rotary
    values["v_head_dim"] = header.metadata.get(
        f"{name}.attention.value_length_mla",
        header.metadata.get(f"{name}.attention.value_length"),
    )
