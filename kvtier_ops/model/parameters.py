"""How many weights a model has, counted from its config and its family's line.

Checked against transformers for every family that it knows (tests/ops/test_published_models.py).
A head that shares the embedding's weights is not counted again; heads that predict further
tokens (MTP) and parts for images or sound are not counted at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvtier_ops.model.attention import Heads, heads_of
from kvtier_ops.model.config_json import Config
from kvtier_ops.model.families import Family, Switch, Weights
from kvtier_ops.model.kv_shape import KvKind
from kvtier_ops.model.layers import Mlp, kinds_by_name


@dataclass(frozen=True)
class Parameters:
    """`experts` are part of `matrices`, and both of `total`.

    `active`: what one token passes through, the whole embedding counted: all but the experts
    that its router does not choose.
    """

    total: int
    active: int
    matrices: int  # of linear layers, without embedding and head: what a quantization shrinks
    experts: int  # that a router chooses from


@dataclass(frozen=True)
class _Sum:
    """Of one part of a layer, or of many."""

    matrices: int = 0
    vectors: int = 0
    experts: int = 0
    idle: int = 0  # of the experts: those that a token does not pass through

    def __add__(self, other: _Sum) -> _Sum:
        return _Sum(
            self.matrices + other.matrices,
            self.vectors + other.vectors,
            self.experts + other.experts,
            self.idle + other.idle,
        )


def count_from_config(config: Config, family: Family) -> Parameters:
    """Of a family that says which weights it has. Raises ModelError where a field is wrong."""
    weights = family.weights
    assert weights is not None
    hidden, vocab = config.count("hidden_size"), config.count("vocab_size")
    kinds = kinds_by_name(config) if config.has("layer_types") else family.kinds(config)
    layers = _Sum()
    parts: dict[tuple[KvKind | None, Mlp], _Sum] = {}
    for kind, mlp in zip(kinds, family.mlps(config), strict=True):
        if (kind, mlp) not in parts:
            parts[kind, mlp] = _layer(config, family, weights, kind, mlp)
        layers += parts[kind, mlp]
    embedding = vocab * hidden
    head = 0 if config.flag("tie_word_embeddings") else embedding
    beside = _norm(weights, hidden) if weights.final_norm else 0
    beside += vocab if _is_on(config, weights.head_bias) else 0
    beside += weights.extra(config) if weights.extra else 0
    total = embedding + head + beside + layers.matrices + layers.vectors
    return Parameters(total, total - layers.idle, layers.matrices, layers.experts)


def idle_experts(config: Config, family: Family) -> int:
    """Weights that a token does not pass through, where only these are to be counted."""
    if family.weights is None or not config.number("num_experts", 0):
        return 0
    sparse = sum(mlp is Mlp.EXPERTS for mlp in family.mlps(config))
    return sparse * _experts(config, family.weights).idle


def ffn_of(config: Config, family: Family) -> int:
    """Width of the MLP that a token passes through; with experts, of all chosen together."""
    if family.ffn:
        return family.ffn(config)
    if not config.number("num_experts", 0) or config.has("intermediate_size"):
        return config.count("intermediate_size")
    return config.count("moe_intermediate_size") * config.count("num_experts_per_tok")


def _layer(config: Config, family: Family, weights: Weights, kind: KvKind | None, mlp: Mlp) -> _Sum:
    norms = weights.norms if isinstance(weights.norms, int) else weights.norms(config)
    found = _Sum(vectors=norms * _norm(weights, config.count("hidden_size")))
    if kind is KvKind.STATE and family.state:
        state = family.state(config)
        found += _Sum(state.matrices, state.vectors)
    elif kind is not None:
        heads = heads_of(config, family)
        found += (_latent if family.is_latent else _attention)(config, weights, heads)
        found += _index(config) if family.has_index else _Sum()
    if mlp is Mlp.DENSE:
        found += _mlp(config, weights, ffn_of(config, family))
    elif mlp is Mlp.EXPERTS:
        found += _experts(config, weights) + _shared_experts(config, weights)
    return found


def _attention(config: Config, weights: Weights, heads: Heads) -> _Sum:
    hidden = config.count("hidden_size")
    queries, keys = heads.query * heads.dim, heads.kv * heads.dim
    values, out = heads.kv * heads.value_dim, heads.query * heads.value_dim
    asked = queries * (2 if _is_on(config, weights.out_gate) else 1)
    vectors = heads.query if weights.sinks else 0
    if _is_on(config, weights.qkv_bias):
        vectors += asked + keys + values
    if _is_on(config, weights.out_bias):
        vectors += hidden
    if weights.qk_norm and _is_on(config, weights.qk_norm_if):
        vectors += 2 * heads.dim if weights.qk_norm == "head" else queries + keys
    return _Sum(hidden * (asked + keys + values + out), vectors)


def _latent(config: Config, weights: Weights, heads: Heads) -> _Sum:
    """MLA: down to the latent and up again; queries may have a latent of their own."""
    hidden, latent = config.count("hidden_size"), config.count("kv_lora_rank")
    rotary, queries = config.count("qk_rope_head_dim"), heads.query * heads.dim
    up = latent * heads.query * (heads.dim - rotary + heads.value_dim)
    matrices = hidden * (latent + rotary) + up + heads.query * heads.value_dim * hidden
    vectors = latent
    biases = hidden + latent + rotary if _is_on(config, weights.qkv_bias) else 0
    if config.has("q_lora_rank"):
        rank = config.count("q_lora_rank")
        matrices += hidden * rank + rank * queries
        vectors += rank + (rank if biases else 0)
    else:
        matrices += hidden * queries
    return _Sum(matrices, vectors + biases)


def _index(config: Config) -> _Sum:
    """DeepSeek-V3.2: what chooses the tokens that attention looks at."""
    hidden, rank = config.count("hidden_size"), config.count("q_lora_rank")
    heads, dim = config.count("index_n_heads"), config.count("index_head_dim")
    return _Sum(rank * heads * dim + hidden * (dim + heads), 2 * dim)


def _mlp(config: Config, weights: Weights, width: int) -> _Sum:
    hidden, ups = config.count("hidden_size"), 2 if weights.gated else 1
    biases = ups * width + hidden if _is_on(config, weights.mlp_bias) else 0
    return _Sum((ups + 1) * hidden * width, biases)


def _experts(config: Config, weights: Weights) -> _Sum:
    """The router and everything that it chooses from."""
    hidden, experts = config.count("hidden_size"), config.count("num_experts")
    chosen, ups = config.count("num_experts_per_tok"), 2 if weights.gated else 1
    if chosen > experts:
        raise config.wrong("num_experts_per_tok", f"is {chosen}, of {experts} experts")
    width = _expert_width(config)
    one = (ups + 1) * hidden * width
    biases = ups * width + hidden if weights.expert_bias else 0
    router_bias = experts if _is_on(config, weights.router_bias) else 0
    return _Sum(
        matrices=experts * one + hidden * experts,
        vectors=experts * biases + router_bias,
        experts=experts * one,
        idle=(experts - chosen) * (one + biases),
    )


def _expert_width(config: Config) -> int:
    if config.has("moe_intermediate_size"):
        return config.count("moe_intermediate_size")
    return config.count("intermediate_size")


def _shared_experts(config: Config, weights: Weights) -> _Sum:
    """Those that every token passes through."""
    if config.has("shared_expert_intermediate_size"):
        width = config.number("shared_expert_intermediate_size")
        width *= config.number("n_shared_experts", 1)
    else:
        width = config.number("n_shared_experts", 0) * _expert_width(config)
    gate = config.count("hidden_size") if weights.shared_gate and width else 0
    return _Sum(_mlp(config, weights, width).matrices + gate)


def _norm(weights: Weights, hidden: int) -> int:
    return hidden * (2 if weights.norm_bias else 1)


def _is_on(config: Config, switch: Switch) -> bool:
    return config.flag(switch) if isinstance(switch, str) else switch
