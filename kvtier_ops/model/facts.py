"""What the plan must know of a model, read from its files without torch or transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtier_engine.config import Dtype
from kvtier_ops.errors import ModelError
from kvtier_ops.model.gguf_header import GgufHeader, read_gguf_header
from kvtier_ops.model.kv_shape import KvKind, KvLayers, KvShape
from kvtier_ops.model.safetensors_header import count_parameters

ITEM_BYTES: Mapping[str, int] = {"bfloat16": 2, "float16": 2, "float32": 4, "float8": 1}
SERVED = frozenset({"LlamaForCausalLM"})  # by the bundled engine; others can be planned for


@dataclass(frozen=True)
class ModelFacts:
    """Sizes of a model; `kv` and `weight_bytes` are for the dtypes it was read with."""

    path: Path
    architecture: str
    kv: KvShape
    parameters: int
    active_parameters: int  # that one token passes through: less than all in a mixture of experts
    weight_bytes: int
    query_heads: int
    head_dim: int  # of a query
    layers: int
    hidden: int
    ffn: int
    vocab: int
    max_context_tokens: int
    weights_reason: str = ""  # what `weight_bytes` was computed from, a phrase

    @property
    def is_served(self) -> bool:
        """By the bundled engine."""
        return self.architecture in SERVED and self.kv.geometry is not None


@dataclass(frozen=True)
class _Shape:
    """Integers of a model's own description, under the names of Hugging Face's config.json."""

    source: Path
    values: Mapping[str, Any]

    def count(self, name: str, default: int | None = None) -> int:
        value = self.values.get(name)
        if value is None:
            value = default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 40:
            said = (
                "is missing" if value is None else f"is not a whole number above 0: {value!r:.40}"
            )
            raise ModelError(f"`{self.source}`: `{name}` {said}", "download the model again")
        return value


def _head_dim(shape: _Shape) -> int:
    heads = shape.count("num_attention_heads")
    return shape.count("head_dim", shape.count("hidden_size") // heads or None)


def _grouped_query(shape: _Shape) -> tuple[KvLayers, ...]:
    """Every layer keeps k and v of each kv head: the Llama family."""
    heads = shape.count("num_key_value_heads", shape.count("num_attention_heads"))
    dim = _head_dim(shape)
    return (KvLayers(KvKind.FULL, shape.count("num_hidden_layers"), heads, dim, dim),)


# Architecture as config.json names it -> how its KV is shaped. One line a family.
KV_LAYERS: Mapping[str, Callable[[_Shape], tuple[KvLayers, ...]]] = {
    "LlamaForCausalLM": _grouped_query,
}
_GGUF_ARCHITECTURES = {"llama": "LlamaForCausalLM"}


def read_model(path: Path, dtype: Dtype, kv_dtype: str = "auto") -> ModelFacts:
    """A Hugging Face folder or a GGUF file -> its sizes when held as `dtype`.

    `kv_dtype`: of the numbers in the cache; `auto`: the same.

    Raises ModelError if it is missing, incomplete or of an architecture not supported.
    """
    if path.is_dir():
        shape, architecture, parameters = _read_folder(path)
    elif path.is_file():
        shape, architecture, parameters = _read_gguf(path)
    else:
        raise ModelError(
            f"there is no model at `{path}`",
            "name a Hugging Face folder, a GGUF file or a model of `kvtier model list`",
        )
    if architecture not in KV_LAYERS:
        raise ModelError(
            f"`{path}` is a {architecture}, which kvtier does not serve yet",
            f"kvtier serves {', '.join(KV_LAYERS)}",
        )
    kv_item_bytes = ITEM_BYTES[dtype if kv_dtype == "auto" else kv_dtype]
    return ModelFacts(
        path=path,
        architecture=architecture,
        kv=KvShape(KV_LAYERS[architecture](shape), kv_item_bytes),
        parameters=parameters,
        active_parameters=parameters,
        weight_bytes=parameters * ITEM_BYTES[dtype],
        query_heads=shape.count("num_attention_heads"),
        head_dim=_head_dim(shape),
        layers=shape.count("num_hidden_layers"),
        hidden=shape.count("hidden_size"),
        ffn=shape.count("intermediate_size"),
        vocab=shape.count("vocab_size"),
        max_context_tokens=shape.count("max_position_embeddings"),
        weights_reason=f"{parameters:,} parameters as {dtype}",
    )


def _read_folder(folder: Path) -> tuple[_Shape, str, int]:
    path = folder / "config.json"
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        hint = "a Hugging Face folder has config.json, *.safetensors and a tokenizer"
        raise ModelError(f"`{folder}` has no config.json", hint) from None
    except OSError as error:
        raise ModelError(f"`{path}` cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"`{path}` is not JSON", "download the model again") from error
    named = values.get("architectures") if isinstance(values, dict) else None
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise ModelError(f"`{path}` does not name its `architectures`", "download the model again")
    if named[0] not in KV_LAYERS:
        return _Shape(path, values), named[0], 0
    return _Shape(path, values), named[0], count_parameters(folder)


def _read_gguf(path: Path) -> tuple[_Shape, str, int]:
    header = read_gguf_header(path)
    name = str(header.metadata.get("general.architecture", "GGUF without an architecture"))
    architecture = _GGUF_ARCHITECTURES.get(name, name)
    return _Shape(path, _as_config(header, name)), architecture, _elements(header)


def _elements(header: GgufHeader) -> int:
    return sum(tensor.elements for tensor in header.tensors.values())


def _as_config(header: GgufHeader, name: str) -> dict[str, Any]:
    """GGUF's metadata under the names of config.json."""
    names = {
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "head_dim": "attention.key_length",
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "max_position_embeddings": "context_length",
        "vocab_size": "vocab_size",
    }
    values = {ours: header.metadata.get(f"{name}.{theirs}") for ours, theirs in names.items()}
    embedding = header.tensors.get("token_embd.weight")
    if values["vocab_size"] is None and embedding and isinstance(values["hidden_size"], int):
        values["vocab_size"] = embedding.elements // max(1, values["hidden_size"])
    return values
