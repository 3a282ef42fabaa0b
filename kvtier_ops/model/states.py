"""Layers that keep a state of fixed size instead of KV: how large it is, and their weights.

Each state is what the layer's convolution still needs (as many columns as its kernel has) and,
but for short convolutions, the recurrent matrix of every head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvtier_ops.model.config_json import Config


@dataclass(frozen=True)
class StateLayer:
    """Counts of numbers. `matrices`: weights of linear layers; `vectors`: all other weights."""

    state: int
    matrices: int
    vectors: int


StateRule = Callable[[Config], StateLayer]


def gated_delta_net(config: Config) -> StateLayer:
    """Qwen3-Next and Qwen3.5 (arXiv 2412.06464)."""
    hidden, kernel = config.count("hidden_size"), config.count("linear_conv_kernel_dim", 4)
    key_dim = config.count("linear_key_head_dim", 128)
    value_heads, value_dim = (
        config.count("linear_num_value_heads", 32),
        config.count("linear_value_head_dim", 128),
    )
    keys = config.count("linear_num_key_heads", 16) * key_dim
    values = value_heads * value_dim
    mixed = 2 * keys + values  # q, k and v go through the convolution
    return StateLayer(
        state=mixed * kernel + value_heads * key_dim * value_dim,
        matrices=hidden * (mixed + values) + hidden * 2 * value_heads + values * hidden,
        vectors=mixed * kernel + 2 * value_heads + value_dim,
    )


def mamba(config: Config) -> StateLayer:
    """Mamba as Jamba has it, with norms of dt, B and C (arXiv 2403.19887)."""
    hidden = config.count("hidden_size")
    inner = hidden * config.count("mamba_expand", 2)
    states, kernel = config.count("mamba_d_state", 16), config.count("mamba_d_conv", 4)
    rank = _mamba_rank(config, hidden)
    biases = inner * config.flag("mamba_conv_bias", True) + inner
    return StateLayer(
        state=inner * (kernel + states),
        matrices=hidden * 2 * inner + inner * (rank + 2 * states) + rank * inner + inner * hidden,
        vectors=inner * (states + 1 + kernel) + biases + rank + 2 * states,
    )


def _mamba_rank(config: Config, hidden: int) -> int:
    if config.value("mamba_dt_rank") in (None, "auto"):
        return -(-hidden // 16)
    return config.count("mamba_dt_rank")


def mamba2(config: Config) -> StateLayer:
    """Mamba-2 (arXiv 2405.21060), under the names of Granite 4."""
    hidden, kernel = config.count("hidden_size"), config.count("mamba_d_conv", 4)
    heads, head_dim = config.count("mamba_n_heads"), config.count("mamba_d_head")
    states, groups = config.count("mamba_d_state"), config.count("mamba_n_groups", 1)
    inner = heads * head_dim
    mixed = inner + 2 * groups * states  # x, B and C go through the convolution
    return StateLayer(
        state=mixed * kernel + inner * states,
        matrices=hidden * (inner + mixed + heads) + inner * hidden,
        vectors=mixed * (kernel + config.flag("mamba_conv_bias", True)) + 3 * heads + inner,
    )


def lightning(config: Config) -> StateLayer:
    """MiniMax-01 (arXiv 2501.08313): a matrix of each head, no convolution."""
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    head_dim = config.count("head_dim", hidden // heads or None)
    inner = heads * head_dim
    return StateLayer(state=inner * head_dim, matrices=5 * hidden * inner, vectors=inner)


def short_convolution(config: Config) -> StateLayer:
    """LFM2: a gated convolution over the last few tokens."""
    hidden, kernel = config.count("hidden_size"), config.count("conv_L_cache", 3)
    biases = 5 * hidden * config.flag("conv_bias")
    return StateLayer(
        state=hidden * kernel, matrices=4 * hidden * hidden, vectors=hidden * kernel + biases
    )
