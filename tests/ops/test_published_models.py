"""Published models: bytes of KV as products, and weights as transformers counts them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ops.published import MODELS, NAMES, config_of, for_transformers, read

from kvtier_ops.model.architectures import FAMILIES
from kvtier_ops.model.kv_shape import KvKind

# layers x (K and V) x kv heads x dim x bytes of bfloat16; MLA: layers x latent x bytes.
TOKEN_BYTES = {
    "command-r-35b": 40 * 2 * 64 * 128 * 2,
    "command-r7b": 32 * 2 * 8 * 128 * 2,
    "deepseek-v2-lite": 27 * (512 + 64) * 2,
    "deepseek-v3": 61 * (512 + 64) * 2,
    "deepseek-v3.2": 61 * (512 + 64 + 128) * 2,  # with the keys of its index
    "falcon-40b": 60 * 2 * 8 * 64 * 2,
    "falcon-7b": 32 * 2 * 1 * 64 * 2,
    "gemma-2-9b": 42 * 2 * 8 * 256 * 2,
    "gemma-3-1b": 26 * 2 * 1 * 256 * 2,
    "gemma-3-27b": 62 * 2 * 16 * 128 * 2,
    "gemma-3-4b": 34 * 2 * 4 * 256 * 2,
    "gemma-3n-e4b": 20 * 2 * 2 * 256 * 2,  # 15 of 35 layers read what others keep
    "gemma-7b": 28 * 2 * 16 * 256 * 2,
    "glm-4-9b-0414": 40 * 2 * 2 * 128 * 2,
    "glm-4-9b-chat": 40 * 2 * 2 * 128 * 2,
    "glm-4.5-air": 46 * 2 * 8 * 128 * 2,
    "glm-5": 78 * (512 + 64 + 128) * 2,
    "gpt-neox-20b": 44 * 2 * 64 * 96 * 2,
    "gpt-oss-120b": 36 * 2 * 8 * 64 * 2,
    "gpt-oss-20b": 24 * 2 * 8 * 64 * 2,
    "gpt2": 12 * 2 * 12 * 64 * 2,
    "granite-3.1-8b": 40 * 2 * 8 * 128 * 2,
    "granite-4.0-h-tiny": 4 * 2 * 4 * 128 * 2,
    "internlm2.5-7b": 32 * 2 * 8 * 128 * 2,
    "jamba-v0.1": 4 * 2 * 8 * 128 * 2,
    "kimi-k2": 61 * (512 + 64) * 2,
    "lfm2-1.2b": 6 * 2 * 8 * 64 * 2,
    "llama-2-70b": 80 * 2 * 8 * 128 * 2,
    "llama-2-7b": 32 * 2 * 32 * 128 * 2,
    "llama-3-8b": 32 * 2 * 8 * 128 * 2,
    "llama-3.2-1b": 16 * 2 * 8 * 64 * 2,
    "llama-3.3-70b": 80 * 2 * 8 * 128 * 2,
    "llama-4-scout": 48 * 2 * 8 * 128 * 2,
    "minimax-m2": 62 * 2 * 8 * 128 * 2,
    "minimax-text-01": 10 * 2 * 8 * 128 * 2,
    "mistral-7b-v0.1": 32 * 2 * 8 * 128 * 2,
    "mistral-small-3.1-24b": 40 * 2 * 8 * 128 * 2,
    "mixtral-8x7b-v0.1": 32 * 2 * 8 * 128 * 2,
    "mpt-7b": 32 * 2 * 32 * 128 * 2,
    "nemotron-h-8b": 4 * 2 * 8 * 128 * 2,
    "olmo-2-7b": 32 * 2 * 32 * 128 * 2,
    "phi-2": 32 * 2 * 32 * 80 * 2,
    "phi-3-mini-4k": 32 * 2 * 32 * 96 * 2,
    "phi-3.5-moe": 32 * 2 * 8 * 128 * 2,
    "phi-4": 40 * 2 * 10 * 128 * 2,
    "qwen1.5-moe-a2.7b": 24 * 2 * 16 * 128 * 2,
    "qwen2.5-0.5b": 24 * 2 * 2 * 64 * 2,
    "qwen2.5-7b": 28 * 2 * 4 * 128 * 2,
    "qwen3-0.6b": 28 * 2 * 8 * 128 * 2,
    "qwen3-235b-a22b": 94 * 2 * 4 * 128 * 2,
    "qwen3-30b-a3b": 48 * 2 * 4 * 128 * 2,
    "qwen3-8b": 36 * 2 * 8 * 128 * 2,
    "qwen3-next-80b-a3b": 12 * 2 * 2 * 256 * 2,
    "smollm2-135m": 30 * 2 * 3 * 64 * 2,
    "smollm3-3b": 36 * 2 * 4 * 128 * 2,
    "starcoder2-3b": 30 * 2 * 2 * 128 * 2,
}
# Layers that look at a window: how many, and how far back.
WINDOWS = {
    "command-r7b": (24, 4096),
    "gemma-2-9b": (21, 4096),
    "gemma-3-1b": (22, 512),
    "gemma-3-27b": (52, 1024),
    "gemma-3-4b": (29, 1024),
    "gemma-3n-e4b": (16, 512),
    "gpt-oss-120b": (18, 128),
    "gpt-oss-20b": (12, 128),
    "llama-4-scout": (36, 8192),
    "mistral-7b-v0.1": (32, 4096),
    "phi-3-mini-4k": (32, 2047),
    "phi-3.5-moe": (32, 131_072),
    "starcoder2-3b": (30, 4096),
}
# In float32: the recurrent matrices of all heads, and columns for the convolution's kernel.
STATE_BYTES = {
    "granite-4.0-h-tiny": 36 * (48 * 64 * 128 + (48 * 64 + 2 * 128) * 4) * 4,
    "jamba-v0.1": 28 * (8192 * 16 + 8192 * 4) * 4,
    "lfm2-1.2b": 10 * 2048 * 3 * 4,
    "minimax-text-01": 70 * 64 * 128 * 128 * 4,
    "nemotron-h-8b": 24 * (128 * 64 * 128 + (128 * 64 + 2 * 8 * 128) * 4) * 4,
    "qwen3-next-80b-a3b": 36 * (32 * 128 * 128 + (2 * 16 * 128 + 32 * 128) * 4) * 4,
}
# As the makers say, or as the published files count; billions where they say no more.
PUBLISHED = {
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-1b": 999_885_952,
    "gpt2": 124_439_808,
    "internlm2.5-7b": 7_737_708_544,
    "jamba-v0.1": 51_570_323_328,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v3": 671_026_419_200,
    "lfm2-1.2b": 1_170_340_608,
    "llama-2-70b": 68_976_648_192,
    "llama-2-7b": 6_738_415_616,
    "llama-3-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.3-70b": 70_553_706_496,
    "mistral-7b-v0.1": 7_241_732_096,
    "mixtral-8x7b-v0.1": 46_702_792_704,
    "phi-2": 2_779_683_840,
    "phi-3-mini-4k": 3_821_079_552,
    "phi-3.5-moe": 41_873_153_344,
    "qwen1.5-moe-a2.7b": 14_315_784_192,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-235b-a22b": 235_093_634_560,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-8b": 8_190_735_360,
    "smollm2-135m": 134_515_008,
}
# What the names of models say that a token passes through, in billions, and how close it is.
ACTIVE = {
    "deepseek-v3": (37, 0.02),
    "kimi-k2": (32, 0.03),
    "llama-4-scout": (17, 0.02),
    "minimax-text-01": (45.9, 0.06),
    "mixtral-8x7b-v0.1": (12.9, 0.01),
    "phi-3.5-moe": (6.6, 0.01),
    "qwen1.5-moe-a2.7b": (2.7, 0.01),
    "qwen3-235b-a22b": (22, 0.01),
    "qwen3-30b-a3b": (3.3, 0.02),
}


def test_every_file_is_in_the_table() -> None:
    assert list(TOKEN_BYTES) == NAMES
    assert len(NAMES) >= 24
    assert all(config_of(name)["_source"] for name in NAMES)
    assert all(path.stat().st_size < 4096 for path in MODELS.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_kv_of_a_token(home: Path, name: str) -> None:
    facts = read(home / "m", config_of(name))
    assert facts.kv.token_bytes == TOKEN_BYTES[name]
    sliding = [group for group in facts.kv.groups if group.kind is KvKind.SLIDING]
    windows = [WINDOWS[name]] if name in WINDOWS else []
    assert [(group.layers, group.window_tokens) for group in sliding] == windows
    assert facts.kv.state_bytes == STATE_BYTES.get(name, 0)
    assert not facts.is_guess
    assert facts.is_served == (facts.architecture == "LlamaForCausalLM")


@pytest.mark.parametrize("name", NAMES)
def test_kv_in_other_forms(home: Path, name: str) -> None:
    """States stay as they are when KV is quantized; weights follow the dtype."""
    from kvtier_ops.model.facts import read_model

    facts = read(home / "m", config_of(name), "float32")
    small = read_model(home / "m", "float32", "float8")
    assert small.kv.token_bytes == TOKEN_BYTES[name] // 2 == facts.kv.token_bytes // 4
    assert small.kv.state_bytes == STATE_BYTES.get(name, 0)
    assert small.weight_bytes == facts.weight_bytes <= 4 * facts.parameters


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_of_parameters(home: Path, name: str) -> None:
    assert read(home / "m", config_of(name)).parameters == PUBLISHED[name]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_as_transformers_counts_them(home: Path, name: str) -> None:
    """InternLM2 is not among transformers' own; what it publishes is in PUBLISHED."""
    import torch
    from transformers import AutoModelForCausalLM

    if name == "internlm2.5-7b":
        assert name in PUBLISHED
        return
    config = config_of(name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(for_transformers(config))
    counted = sum(weight.numel() for weight in model.parameters())
    # In the files, but no parameter in transformers: what balances the experts.
    counted += sum(
        buffer.numel() for key, buffer in model.named_buffers() if "correction_bias" in key
    )
    assert read(home / "m", config).parameters == counted


@pytest.mark.parametrize("name", ACTIVE)
def test_what_a_token_passes_through(home: Path, name: str) -> None:
    billions, close = ACTIVE[name]
    facts = read(home / "m", config_of(name))
    assert facts.active_parameters < facts.parameters
    assert facts.active_parameters == pytest.approx(billions * 1e9, rel=close)


def test_dense_models_pass_through_all(home: Path) -> None:
    facts = read(home / "m", config_of("llama-3-8b"))
    assert facts.active_parameters == facts.parameters


def _families_of_transformers() -> dict[str, str]:
    """Architecture -> transformers' name of its configuration."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kinds = {name: kind for kind, name in reversed(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items())}
    return {name: kinds[name] for name in FAMILIES if name in kinds}


# By these names they are published, with code of their own or before transformers had them.
_ELSEWHERE = {
    "ChatGLMForConditionalGeneration",
    "ChatGLMModel",
    "InternLM2ForCausalLM",
    "KimiK2ForCausalLM",
    "MPTForCausalLM",
    "MiniMaxM1ForCausalLM",
    "MiniMaxText01ForCausalLM",
    "PhiMoEForCausalLM",
    "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
}


def test_families_that_are_only_published_elsewhere() -> None:
    assert set(FAMILIES) - set(_families_of_transformers()) == _ELSEWHERE


@pytest.mark.parametrize("architecture", sorted(set(FAMILIES) - _ELSEWHERE))
def test_configs_as_transformers_writes_them(home: Path, architecture: str) -> None:
    """Every line of the table, with the fields that transformers 5 adds when it saves."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    # Three defaults are of no model: no number of chosen experts, half heads, no attention.
    changes = {
        "DeepseekV2ForCausalLM": {"num_experts_per_tok": 2},
        "Glm4MoeForCausalLM": {"head_dim": 128},
        "GraniteMoeHybridForCausalLM": {"layer_types": ["attention", *["mamba"] * 31]},
    }.get(architecture, {})
    theirs = CONFIG_MAPPING[_families_of_transformers()[architecture]](**changes).get_text_config()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(theirs)
    counted = sum(weight.numel() for weight in model.parameters())
    counted += sum(
        buffer.numel() for key, buffer in model.named_buffers() if "correction_bias" in key
    )
    config = {**theirs.to_dict(), "architectures": [architecture]}
    assert read(home / "m", config).parameters == counted
