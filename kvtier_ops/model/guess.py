"""Architectures that are not in the table: planned as grouped-query attention, or refused.

A config that has all fields of a Llama and nothing that such a model would not have is most
likely one under another name. Where something hints at other layers, a guess would be worth
less than a refusal.
"""

from __future__ import annotations

from kvtier_ops.errors import ModelError
from kvtier_ops.model.config_json import Config
from kvtier_ops.model.families import Family, Weights
from kvtier_ops.model.layers import windowed_from_layer

_DECODERS = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
# Parts of the names of fields that tell of KV which this reading would get wrong.
_OTHER_KV = (
    "attention_interval",
    "attn_layer",
    "block_configs",
    "compress",
    "conv",
    "cross_attention",
    "global_head",
    "hybrid",
    "index_",
    "k_eq_v",
    "kv_shared",
    "linear_",
    "lora_rank",
    "mamba",
    "mla",
    "num_global",
    "recurrent",
    "rwkv",
    "share_factor",
    "shared_kv",
    "ssm",
    "swa_",
    "v_head_dim",
    "value_head_dim",
)
_HARMLESS = ("compression_config",)  # weights that are quantized
_NEEDED = (
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_size",
    "vocab_size",
    "max_position_embeddings",
)
_GUESS = Family(
    windowed_from_layer,
    weights=Weights(qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias"),
)


def guess_family(config: Config, architecture: str) -> Family:
    """Raises ModelError, naming the architecture, if its fields do not tell."""
    if not architecture.endswith(_DECODERS):
        raise _unknown(config, architecture, "and by its name it does not generate text")
    if config.values.get("is_encoder_decoder"):
        raise _unknown(config, architecture, "and it has an encoder")
    if any(part in architecture.lower() for part in _OTHER_KV):
        raise _unknown(config, architecture, "and by its name it keeps other things than KV")
    strange = next((name for name in sorted(config.values) if _is_strange(config, name)), None)
    if strange is not None:
        raise _unknown(config, architecture, f"and its `{strange}` hints at KV of another shape")
    missing = next((name for name in _NEEDED if not config.has(name)), None)
    if missing is not None:
        raise _unknown(config, architecture, f"and its config has no `{missing}`")
    return _GUESS


def _is_strange(config: Config, name: str) -> bool:
    """A field that is there, says something, and is no part of grouped-query attention."""
    value = config.values[name]
    if name in _HARMLESS or not value or not any(part in name for part in _OTHER_KV):
        return False
    same_width = name == "v_head_dim" and value == config.values.get("head_dim")
    return not same_width


def _unknown(config: Config, architecture: str, why: str) -> ModelError:
    return ModelError(
        f"`{config.source}` is of the architecture {architecture:.60}, which kvtier does not know,"
        f" {why}",
        f"kvtier plans for models such as {', '.join(EXAMPLES)}",
    )


EXAMPLES = ("LlamaForCausalLM", "Qwen3ForCausalLM", "DeepseekV3ForCausalLM", "Gemma3ForCausalLM")
