"""What the attention of each layer keeps, from a config and its family."""

from __future__ import annotations

from dataclasses import dataclass

from kvtier_ops.model.config_json import Config
from kvtier_ops.model.families import Family
from kvtier_ops.model.kv_shape import KvKind, KvLayers, grouped
from kvtier_ops.model.layers import kinds_by_name


@dataclass(frozen=True)
class Heads:
    """Of one layer of grouped-query attention, or of MLA (then `kv` is not meant)."""

    query: int
    kv: int
    dim: int  # of a query and of a key
    value_dim: int


def heads_of(config: Config, family: Family) -> Heads:
    """Raises ModelError if heads do not divide as they must."""
    query = config.count("num_attention_heads")
    if family.is_latent:
        rotary = config.count("qk_rope_head_dim")
        dim = config.count("qk_nope_head_dim") + rotary
        return Heads(query, query, dim, config.count("v_head_dim"))
    kv = family.kv_heads(config) if family.kv_heads else config.count("num_key_value_heads", query)
    if query % kv:
        raise config.wrong(
            "num_attention_heads", f"is {query}, no multiple of the {kv} kv heads of the model"
        )
    dim = _head_dim(config, query)
    return Heads(query, kv, dim, dim)


def _head_dim(config: Config, heads: int) -> int:
    if config.has("head_dim"):
        return config.count("head_dim")
    hidden = config.count("hidden_size")
    if hidden % heads:
        raise config.wrong("hidden_size", f"is {hidden}, no multiple of {heads} heads")
    return hidden // heads


def kinds_of(config: Config, family: Family) -> list[KvKind | None]:
    """Of every layer, in order; MLA's are LATENT. Raises ModelError if nothing would be kept."""
    kinds = kinds_by_name(config) if config.has("layer_types") else family.kinds(config)
    shared = config.number("num_kv_shared_layers", 0)  # Gemma 3n: the last read what others keep
    if shared >= len(kinds):
        raise config.wrong("num_kv_shared_layers", f"is {shared}, of {len(kinds)} layers")
    kinds = [*kinds[: len(kinds) - shared], *[None] * shared]
    if KvKind.STATE in kinds and family.state is None:
        raise config.wrong("layer_types", "names layers with a state, which this family has not")
    if family.is_latent:
        kinds = [KvKind.LATENT if kind is KvKind.FULL else kind for kind in kinds]
    if not set(kinds) - {None, KvKind.STATE}:
        raise config.wrong("num_hidden_layers", "are layers without attention: no KV to cache")
    return kinds


def kv_layers(config: Config, family: Family) -> tuple[KvLayers, ...]:
    """Groups of equal layers, in the order in which they first appear."""
    heads = heads_of(config, family)
    kinds = kinds_of(config, family)
    made = {kind: _layer(config, family, kind, heads) for kind in set(kinds) if kind is not None}
    return grouped([layer for kind in kinds if kind is not None for layer in made[kind]])


def _layer(config: Config, family: Family, kind: KvKind, heads: Heads) -> tuple[KvLayers, ...]:
    if kind is KvKind.STATE:
        assert family.state is not None
        return (KvLayers(kind, 1, state_numbers=family.state(config).state),)
    if kind is KvKind.LATENT:
        latent = config.count("kv_lora_rank") + config.count("qk_rope_head_dim")
        layers = (KvLayers(kind, 1, 1, latent),)
        index = config.count("index_head_dim") if family.has_index else 0
        return (*layers, KvLayers(kind, 1, 1, index)) if index else layers
    window = config.count("sliding_window") if kind is KvKind.SLIDING else None
    return (KvLayers(kind, 1, heads.kv, heads.dim, heads.value_dim, window),)
