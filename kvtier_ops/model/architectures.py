"""Every architecture that kvtier can plan for, as a line of a table.

A line says how its files spell things, what its layers are, and which weights they have beyond
the matrices that all have. What a config leaves out is what its family's own code assumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kvtier_ops.model import quirks, states
from kvtier_ops.model.config_json import Default
from kvtier_ops.model.families import Family, Names, Weights
from kvtier_ops.model.kv_shape import KvKind
from kvtier_ops.model.layers import (
    block_count,
    block_kinds,
    block_mlps,
    chunked_where_rotary,
    full_at_indices,
    full_at_offset,
    full_every,
    listed_as_numbers,
    windowed,
    windowed_from_layer,
)

_TIED: Mapping[str, Default] = {"tie_word_embeddings": True}
_WIDE: Mapping[str, Default] = {"intermediate_size": quirks.four_times}
_LLAMA = Weights(qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias")
_GPT2 = Weights(norm_bias=True, qkv_bias=True, out_bias=True, mlp_bias=True, gated=False)
_ATTENTION_BIAS = Weights(qkv_bias="attention_bias", out_bias="attention_bias")
_MLA = replace(_ATTENTION_BIAS, router_bias=True)

_QWEN2 = Family(windowed_from_layer, weights=Weights(qkv_bias=True))
_QWEN3 = Family(windowed_from_layer, weights=replace(_ATTENTION_BIAS, qk_norm="head"))
_QWEN3_NEXT = Family(
    full_every("full_attention_interval", 4, KvKind.STATE),
    state=states.gated_delta_net,
    weights=replace(_ATTENTION_BIAS, qk_norm="head", out_gate=True, shared_gate=True),
)
_DEEPSEEK_NAMES: Names = {"decoder_sparse_step": ("moe_layer_freq",)}
_DEEPSEEK2 = Family(names=_DEEPSEEK_NAMES, is_latent=True, weights=_ATTENTION_BIAS)
_DEEPSEEK3 = replace(_DEEPSEEK2, weights=_MLA)
_DEEPSEEK32 = replace(
    _DEEPSEEK3, has_index=True, defaults={"index_head_dim": 128, "index_n_heads": 64}
)
_LLAMA4 = Family(
    chunked_where_rotary,
    names={
        "sliding_window": ("attention_chunk_size",),
        "intermediate_size": ("intermediate_size_mlp",),
        "moe_intermediate_size": ("intermediate_size",),
        "shared_expert_intermediate_size": ("intermediate_size",),
        "decoder_sparse_step": ("interleave_moe_layer_step",),
    },
    weights=_ATTENTION_BIAS,
)
# Google's files leave out what the code of the family has as a default.
_GEMMA2 = Family(
    full_every("sliding_window_pattern", 2),
    defaults={**_TIED, "sliding_window": 4096, "head_dim": 256},
    weights=replace(_ATTENTION_BIAS, norms=4),
)
_GEMMA3 = Family(
    full_every("sliding_window_pattern", 6),
    defaults={
        **_GEMMA2.defaults,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
    },
    weights=replace(_ATTENTION_BIAS, norms=4, qk_norm="head"),
)
_GEMMA3N = Family(
    full_every("sliding_window_pattern", 5),
    defaults={
        **_GEMMA3.defaults,
        "num_key_value_heads": 2,
        "sliding_window": 512,
        "num_kv_shared_layers": 15,
        "vocab_size": 262_400,
        "max_position_embeddings": 32_768,
    },
    ffn=quirks.gemma3n_ffn,
    weights=replace(_ATTENTION_BIAS, norms=4, qk_norm="head", extra=quirks.gemma3n_extra),
)
_PHIMOE = Family(
    windowed,
    weights=replace(_ATTENTION_BIAS, norm_bias=True, head_bias="lm_head_bias"),
)
_GPT_OSS = Family(
    full_every("sliding_window_pattern", 2),
    defaults={"sliding_window": 128, "attention_bias": True},
    weights=replace(_ATTENTION_BIAS, sinks=True, router_bias=True, expert_bias=True),
)
_GLM4_MOE = Family(
    weights=Weights(
        qkv_bias="attention_bias", qk_norm="head", qk_norm_if="use_qk_norm", router_bias=True
    )
)
_CHATGLM = Family(
    names={"vocab_size": ("padded_vocab_size",)},
    kv_heads=quirks.chatglm_kv_heads,
    weights=Weights(
        qkv_bias="add_qkv_bias", out_bias="add_bias_linear", mlp_bias="add_bias_linear"
    ),
)
_COHERE = Family(
    defaults=_TIED,
    weights=replace(_ATTENTION_BIAS, norms=1, qk_norm="all", qk_norm_if="use_qk_norm"),
)
_FALCON = Family(
    defaults={**_TIED, **_WIDE, "max_position_embeddings": 2048},
    kv_heads=quirks.falcon_kv_heads,
    weights=Weights(
        norms=quirks.falcon_norms,
        norm_bias=True,
        qkv_bias="bias",
        out_bias="bias",
        mlp_bias="bias",
        gated=False,
    ),
)
_GRANITE4 = Family(
    state=states.mamba2,
    names={
        "intermediate_size": ("shared_intermediate_size",),
        "moe_intermediate_size": ("intermediate_size",),
        "shared_expert_intermediate_size": ("shared_intermediate_size",),
    },
    weights=_ATTENTION_BIAS,
)
_NEMOTRON_H = Family(
    block_kinds,
    block_mlps,
    names={
        "layers_block_type": ("layer_types",),
        "mamba_n_heads": ("mamba_num_heads",),
        "mamba_d_head": ("mamba_head_dim",),
        "mamba_d_state": ("ssm_state_size",),
        "mamba_d_conv": ("conv_kernel",),
        "mamba_n_groups": ("n_groups",),
        "mamba_conv_bias": ("use_conv_bias",),
        "shared_expert_intermediate_size": ("moe_shared_expert_intermediate_size",),
    },
    defaults={"num_hidden_layers": block_count},
    state=states.mamba2,
    weights=replace(_LLAMA, norms=1, gated=False, router_bias=True),
)
_MINIMAX = Family(listed_as_numbers, state=states.lightning)

# Architecture, as config.json names it -> how it is read.
FAMILIES: Mapping[str, Family] = {
    "BloomForCausalLM": Family(
        defaults={**_TIED, **_WIDE, "max_position_embeddings": 2048},
        weights=replace(_GPT2, extra=quirks.embedding_norm),
    ),
    "ChatGLMForConditionalGeneration": _CHATGLM,
    "ChatGLMModel": _CHATGLM,
    "Cohere2ForCausalLM": replace(
        _COHERE,
        kinds=full_every("sliding_window_pattern", 4),
        defaults={**_TIED, "sliding_window": 4096},
        weights=replace(_ATTENTION_BIAS, norms=1),
    ),
    "CohereForCausalLM": _COHERE,
    "DeepseekV2ForCausalLM": _DEEPSEEK2,
    "DeepseekV32ForCausalLM": _DEEPSEEK32,
    "DeepseekV3ForCausalLM": _DEEPSEEK3,
    "FalconForCausalLM": _FALCON,
    "GPT2LMHeadModel": Family(
        defaults={**_TIED, **_WIDE}, weights=replace(_GPT2, extra=quirks.position_rows)
    ),
    "GPTBigCodeForCausalLM": Family(
        defaults={**_TIED, **_WIDE},
        kv_heads=quirks.bigcode_kv_heads,
        weights=replace(_GPT2, extra=quirks.position_rows),
    ),
    "GPTNeoXForCausalLM": Family(
        defaults={**_WIDE, "attention_bias": True},
        weights=replace(_GPT2, qkv_bias="attention_bias", out_bias="attention_bias"),
    ),
    "Gemma2ForCausalLM": _GEMMA2,
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3nForCausalLM": _GEMMA3N,
    "GemmaForCausalLM": Family(defaults={**_TIED, "head_dim": 256}, weights=_ATTENTION_BIAS),
    "Glm4ForCausalLM": Family(
        defaults={"attention_bias": True}, weights=Weights(norms=4, qkv_bias="attention_bias")
    ),
    "Glm4MoeForCausalLM": _GLM4_MOE,
    "Glm4MoeLiteForCausalLM": replace(_DEEPSEEK3, defaults={"first_k_dense_replace": 1}),
    "GlmForCausalLM": Family(
        defaults={"attention_bias": True}, weights=Weights(qkv_bias="attention_bias")
    ),
    "GlmMoeDsaForCausalLM": replace(
        _DEEPSEEK32,
        defaults={"index_head_dim": 128, "index_n_heads": 32, "first_k_dense_replace": 3},
    ),
    "GptOssForCausalLM": _GPT_OSS,
    "GraniteForCausalLM": Family(weights=_LLAMA),
    "GraniteMoeForCausalLM": Family(weights=_ATTENTION_BIAS),
    "GraniteMoeHybridForCausalLM": _GRANITE4,
    "InternLM2ForCausalLM": Family(weights=Weights(qkv_bias="bias", out_bias="bias")),
    "JambaForCausalLM": Family(
        full_at_offset,
        names={"decoder_sparse_step": ("expert_layer_period",)},
        defaults={"decoder_sparse_step": 2, "expert_layer_offset": 1},
        state=states.mamba,
    ),
    "KimiK2ForCausalLM": _DEEPSEEK3,
    "Lfm2ForCausalLM": Family(
        full_at_indices,
        names={"intermediate_size": ("block_ff_dim",)},
        defaults=_TIED,
        state=states.short_convolution,
        ffn=quirks.lfm2_ffn,
        weights=Weights(qk_norm="head"),
    ),
    "Llama4ForCausalLM": _LLAMA4,
    "LlamaForCausalLM": Family(weights=_LLAMA),
    "MPTForCausalLM": Family(
        defaults=_TIED,
        kv_heads=quirks.mpt_kv_heads,
        ffn=quirks.mpt_ffn,
        weights=Weights(gated=False),
    ),
    "MiniMaxForCausalLM": _MINIMAX,
    "MiniMaxM1ForCausalLM": _MINIMAX,
    "MiniMaxM2ForCausalLM": Family(weights=Weights(qk_norm="all", router_bias=True)),
    "MiniMaxText01ForCausalLM": _MINIMAX,
    "Ministral3ForCausalLM": Family(windowed),
    "MistralForCausalLM": Family(windowed),
    "MixtralForCausalLM": Family(windowed),
    "MptForCausalLM": Family(
        defaults=_TIED,
        kv_heads=quirks.mpt_kv_heads,
        ffn=quirks.mpt_ffn,
        weights=Weights(gated=False),
    ),
    "NemotronHForCausalLM": _NEMOTRON_H,
    "OPTForCausalLM": Family(
        defaults=_TIED, weights=replace(_GPT2, extra=quirks.opt_position_rows)
    ),
    "Olmo2ForCausalLM": Family(weights=replace(_ATTENTION_BIAS, qk_norm="all")),
    "Olmo3ForCausalLM": Family(
        full_every("sliding_window_pattern", 4),
        defaults={"sliding_window": 4096},
        weights=replace(_ATTENTION_BIAS, qk_norm="all"),
    ),
    "OlmoForCausalLM": Family(weights=replace(_ATTENTION_BIAS, norms=0, final_norm=False)),
    "OlmoeForCausalLM": Family(weights=replace(_ATTENTION_BIAS, qk_norm="all")),
    "Phi3ForCausalLM": Family(windowed),
    "PhiForCausalLM": Family(defaults=_WIDE, weights=replace(_GPT2, norms=1, head_bias=True)),
    "PhiMoEForCausalLM": _PHIMOE,
    "PhimoeForCausalLM": _PHIMOE,
    "Qwen2ForCausalLM": _QWEN2,
    "Qwen2MoeForCausalLM": Family(
        windowed_from_layer,
        defaults={"qkv_bias": True},
        weights=Weights(qkv_bias="qkv_bias", shared_gate=True),
    ),
    "Qwen2VLForConditionalGeneration": _QWEN2,
    "Qwen2_5_VLForConditionalGeneration": _QWEN2,
    "Qwen3ForCausalLM": _QWEN3,
    "Qwen3MoeForCausalLM": _QWEN3,
    "Qwen3NextForCausalLM": _QWEN3_NEXT,
    "Qwen3_5ForCausalLM": _QWEN3_NEXT,
    "Qwen3_5MoeForCausalLM": _QWEN3_NEXT,
    "SeedOssForCausalLM": Family(
        weights=Weights(
            qkv_bias="attention_bias", out_bias="attention_out_bias", mlp_bias="mlp_bias"
        )
    ),
    "SmolLM3ForCausalLM": Family(windowed_from_layer, defaults=_TIED, weights=_LLAMA),
    "StableLmForCausalLM": Family(weights=Weights(norm_bias=True, qkv_bias="use_qkv_bias")),
    "Starcoder2ForCausalLM": Family(
        windowed,
        defaults={**_TIED, "use_bias": True},
        weights=Weights(
            norm_bias=True,
            qkv_bias="use_bias",
            out_bias="use_bias",
            mlp_bias="use_bias",
            gated=False,
        ),
    ),
}

# The language model inside of one that also sees or hears: `model_type` of the inner config.
TEXT_MODELS: Mapping[str, str] = {
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "gemma3n_text": "Gemma3nForCausalLM",
    "glm4": "Glm4ForCausalLM",
    "glm4_moe": "Glm4MoeForCausalLM",
    "gpt_oss": "GptOssForCausalLM",
    "granite": "GraniteForCausalLM",
    "internlm2": "InternLM2ForCausalLM",
    "kimi_k2": "DeepseekV3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "llama4_text": "Llama4ForCausalLM",
    "ministral3": "Ministral3ForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen2_5_vl_text": "Qwen2ForCausalLM",
    "qwen2_vl_text": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_5_moe_text": "Qwen3_5MoeForCausalLM",
    "qwen3_5_text": "Qwen3_5ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "qwen3_vl_moe_text": "Qwen3MoeForCausalLM",
    "qwen3_vl_text": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
