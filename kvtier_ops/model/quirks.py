"""What single families compute in a way of their own: kv heads, widths, further weights."""

from __future__ import annotations

from kvtier_ops.model.config_json import COUNT_MAX, Config, layer_count


def four_times(config: Config) -> int:
    return 4 * config.count("hidden_size")


def falcon_kv_heads(config: Config) -> int:
    heads = config.count("num_attention_heads")
    if config.flag("new_decoder_architecture"):
        return config.count("num_key_value_heads", heads)
    return 1 if config.flag("multi_query", True) else heads


def falcon_norms(config: Config) -> int:
    if config.flag("new_decoder_architecture"):
        return config.count("num_ln_in_parallel_attn", 2)
    return 1 if config.flag("parallel_attn", True) else 2


def bigcode_kv_heads(config: Config) -> int:
    return 1 if config.flag("multi_query", True) else config.count("num_attention_heads")


def mpt_kv_heads(config: Config) -> int:
    heads = config.count("num_attention_heads")
    if not config.has("attn_config"):
        return heads
    return config.inner("attn_config").count("kv_n_heads", heads)


def mpt_ffn(config: Config) -> int:
    return config.count("expansion_ratio", 4) * config.count("hidden_size")


def chatglm_kv_heads(config: Config) -> int:
    heads = config.count("num_attention_heads")
    grouped = config.flag("multi_query_attention")
    return config.count("num_key_value_heads", heads) if grouped else heads


def lfm2_ffn(config: Config) -> int:
    size = config.count("intermediate_size")
    if not config.flag("block_auto_adjust_ff_dim", True):
        return size
    unit = config.count("block_multiple_of", 256)
    return -(-(2 * size // 3) // unit) * unit


def gemma3n_ffn(config: Config) -> int:
    """A list in its files: layers could differ. The widest; published models have one width."""
    if isinstance(config.value("intermediate_size"), list):
        widths = config.items("intermediate_size", int, layer_count(config))
        if not 0 < min(widths) <= max(widths) <= COUNT_MAX:
            raise config.wrong("intermediate_size", "has a width that no layer can have")
        return int(max(widths))
    return config.count("intermediate_size")


def gemma3n_extra(config: Config) -> int:
    """Streams that run beside the residual one (AltUp), low-rank paths around every layer
    (LAuReL), and an embedding of its own for each layer."""
    hidden, layers = config.count("hidden_size"), layer_count(config)
    streams, rank = config.count("altup_num_inputs", 4), config.count("laurel_rank", 64)
    narrow = config.count("hidden_size_per_layer_input", 256)
    rows = config.count("vocab_size_per_layer_input", 262_144)
    altup = streams * streams * (1 + streams) + streams * hidden + 2 * hidden
    layer = altup + 2 * rank * hidden + hidden + 2 * narrow * hidden + hidden
    beside = 2 * (streams - 1) * hidden * hidden
    dim = config.count("head_dim")
    not_there = 2 * hidden * config.count("num_key_value_heads") * dim + dim  # of layers that share
    shared = config.number("num_kv_shared_layers") * not_there
    return layers * layer + layers * narrow * (rows + hidden) + narrow + beside - shared


def position_rows(config: Config) -> int:
    return config.count("max_position_embeddings") * config.count("hidden_size")


def opt_position_rows(config: Config) -> int:
    return (config.count("max_position_embeddings") + 2) * config.count("hidden_size")


def embedding_norm(config: Config) -> int:
    return 2 * config.count("hidden_size")
