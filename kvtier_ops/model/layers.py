"""What each layer of a model is: what its attention looks at, and whether experts follow.

`layer_types` and `mlp_layer_types`, which newer configs have, say it layer by layer and win.
Older ones leave it to the family: a pattern, here, or a number from which layers differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from kvtier_ops.model.config_json import LAYERS_MAX, Config, layer_count
from kvtier_ops.model.kv_shape import KvKind


class Mlp(StrEnum):
    DENSE = "dense"
    EXPERTS = "sparse"
    NONE = "none"


# None: a layer that keeps nothing of a sequence.
Kinds = Callable[[Config], list[KvKind | None]]
Mlps = Callable[[Config], list[Mlp]]

_LAYER_TYPES: Mapping[str, KvKind | None] = {
    "full_attention": KvKind.FULL,
    "attention": KvKind.FULL,
    "indexed_attention": KvKind.FULL,
    "sliding_attention": KvKind.SLIDING,
    "chunked_attention": KvKind.SLIDING,
    "linear_attention": KvKind.STATE,
    "mamba": KvKind.STATE,
    "conv": KvKind.STATE,
    "mlp": None,
    "moe": None,
}
_BLOCKS = {"M": KvKind.STATE, "*": KvKind.FULL, "-": None, "E": None}
_BLOCK_MLPS = {"-": Mlp.DENSE, "E": Mlp.EXPERTS}
_BLOCK_TYPES = {
    "linear_attention": "M",
    "mamba": "M",
    "full_attention": "*",
    "attention": "*",
    "mlp": "-",
    "moe": "E",
}


def kinds_by_name(config: Config) -> list[KvKind | None]:
    """From `layer_types`. Raises ModelError for one that is not known."""
    names = config.items("layer_types", str, layer_count(config))
    unknown = next((name for name in names if name not in _LAYER_TYPES), None)
    if unknown is not None:
        raise config.wrong("layer_types", f"names a layer that kvtier does not know: {unknown:.40}")
    return [_LAYER_TYPES[name] for name in names]


def all_full(config: Config) -> list[KvKind | None]:
    return [KvKind.FULL] * layer_count(config)


def windowed(config: Config) -> list[KvKind | None]:
    """Every layer has the window, if the model has one."""
    kind: KvKind | None = KvKind.SLIDING if config.has("sliding_window") else KvKind.FULL
    return [kind] * layer_count(config)


def windowed_from_layer(config: Config) -> list[KvKind | None]:
    """Qwen: layers from `max_window_layers` on have the window, where it is switched on."""
    layers = layer_count(config)
    is_on = config.flag("use_sliding_window") and config.has("sliding_window")
    full = config.number("max_window_layers", layers) if is_on else layers
    return [KvKind.FULL if layer < full else KvKind.SLIDING for layer in range(layers)]


def full_every(field: str, default: int, others: KvKind = KvKind.SLIDING) -> Kinds:
    """Every nth layer is full, and n is in `field`; the rest is `others`."""

    def kinds(config: Config) -> list[KvKind | None]:
        nth = config.count(field, default)
        windowless = others is KvKind.SLIDING and not config.has("sliding_window")
        return [
            KvKind.FULL if windowless or (layer + 1) % nth == 0 else others
            for layer in range(layer_count(config))
        ]

    return kinds


def chunked_where_rotary(config: Config) -> list[KvKind | None]:
    """Llama 4: layers with rotary embeddings look no further than their chunk."""
    rotary = config.value("no_rope_layers")
    if not rotary:  # some files have an empty list
        return full_every("no_rope_layer_interval", 4)(config)
    rotary = config.items("no_rope_layers", int, layer_count(config))
    has_chunks = config.has("sliding_window")
    return [KvKind.SLIDING if each and has_chunks else KvKind.FULL for each in rotary]


def full_at_offset(config: Config) -> list[KvKind | None]:
    """Jamba: one layer of each period attends, the others keep a state."""
    period, offset = config.count("attn_layer_period", 8), config.number("attn_layer_offset", 4)
    return [
        KvKind.FULL if layer % period == offset else KvKind.STATE
        for layer in range(layer_count(config))
    ]


def listed_as_numbers(config: Config) -> list[KvKind | None]:
    """MiniMax: 1 attends, 0 keeps a state."""
    numbers = config.items("attn_type_list", int, layer_count(config))
    return [KvKind.FULL if number else KvKind.STATE for number in numbers]


def full_at_indices(config: Config) -> list[KvKind | None]:
    """LFM2: the layers that attend are listed; the others keep a state."""
    layers = layer_count(config)
    attend = set(config.items("full_attn_idxs", int))
    return [KvKind.FULL if layer in attend else KvKind.STATE for layer in range(layers)]


def block_kinds(config: Config) -> list[KvKind | None]:
    """Nemotron-H: a layer is either attention, or a state, or an MLP."""
    return [_BLOCKS[block] for block in _blocks(config)]


def block_count(config: Config) -> int:
    """Nemotron-H: newer files do not say it otherwise."""
    return len(_blocks(config))


def block_mlps(config: Config) -> list[Mlp]:
    """Nemotron-H."""
    return [_BLOCK_MLPS.get(block, Mlp.NONE) for block in _blocks(config)]


def mlps(config: Config) -> list[Mlp]:
    """Experts in all layers, in every nth, or from one on, where the model has experts at all."""
    layers = layer_count(config)
    if not config.number("num_experts", 0):
        return [Mlp.DENSE] * layers
    if config.has("mlp_layer_types"):
        names = config.items("mlp_layer_types", str, layers)
        unknown = next((name for name in names if name not in ("dense", "sparse")), None)
        if unknown is not None:
            raise config.wrong("mlp_layer_types", f"names neither dense nor sparse: {unknown:.40}")
        return [Mlp(name) for name in names]
    first = config.number("first_k_dense_replace", 0)
    period = config.count("decoder_sparse_step", 1)
    offset = config.number("expert_layer_offset", period - 1)
    dense = set(config.items("mlp_only_layers", int)) if config.has("mlp_only_layers") else set()
    return [
        Mlp.EXPERTS
        if layer >= first and layer % period == offset and layer not in dense
        else Mlp.DENSE
        for layer in range(layers)
    ]


def _blocks(config: Config) -> str:
    """Of `hybrid_override_pattern`, or of the list that newer files have; one letter a layer."""
    if config.has("layers_block_type"):
        names = config.items("layers_block_type", str)
        unknown = next((name for name in names if name not in _BLOCK_TYPES), None)
        field, blocks = "layers_block_type", "".join(_BLOCK_TYPES.get(name, "") for name in names)
    else:
        field, blocks = "hybrid_override_pattern", config.text("hybrid_override_pattern")
        unknown = next((letter for letter in blocks if letter not in _BLOCKS), None)
    if unknown is not None:
        raise config.wrong(field, f"names a layer that kvtier does not know: {unknown:.40}")
    if not 0 < len(blocks) <= LAYERS_MAX:
        raise config.wrong(field, f"names {len(blocks)} layers")
    said = config.values.get("num_hidden_layers")
    if said is not None and len(blocks) != layer_count(config):
        raise config.wrong(field, f"has {len(blocks)} entries for {layer_count(config)} layers")
    return blocks
