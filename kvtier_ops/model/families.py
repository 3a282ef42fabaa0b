"""What kvtier must know of a family of models to read its config: the shape of a table's line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from kvtier_ops.model import states
from kvtier_ops.model.config_json import Config, Default
from kvtier_ops.model.layers import Kinds, Mlps, all_full, mlps

Switch = bool | str  # a fact of the family, or the config's field that says it
Names = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Weights:
    """Which weights a layer has beyond the matrices that all have."""

    norms: int | Callable[[Config], int] = 2  # of a layer, each as long as `hidden_size`
    norm_bias: bool = False
    final_norm: bool = True
    qkv_bias: Switch = False
    out_bias: Switch = False
    mlp_bias: Switch = False
    head_bias: Switch = False
    qk_norm: Literal["", "head", "all"] = ""  # one for all heads to share, or one for each
    qk_norm_if: Switch = True
    out_gate: Switch = False  # attention's output is gated by a second query
    sinks: bool = False  # one number a query head
    gated: bool = True  # MLPs have a gate
    router_bias: Switch = False
    expert_bias: bool = False
    shared_gate: bool = False  # of the shared expert
    extra: Callable[[Config], int] | None = None  # beside the layers


@dataclass(frozen=True)
class Family:
    """How to read the config of one architecture. `weights` None: they cannot be counted."""

    kinds: Kinds = all_full
    mlps: Mlps = mlps
    names: Names = field(default_factory=dict)
    defaults: Mapping[str, Default] = field(default_factory=dict)
    is_latent: bool = False  # MLA
    has_index: bool = False  # MLA whose layers also keep the keys of a sparse index
    state: states.StateRule | None = None
    kv_heads: Callable[[Config], int] | None = None
    ffn: Callable[[Config], int] | None = None
    weights: Weights | None = field(default_factory=Weights)
