"""What the plan must know of a model, read from its files without torch or transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kvtier_engine.config import Dtype
from kvtier_ops.errors import ModelError
from kvtier_ops.model.architectures import FAMILIES, TEXT_MODELS
from kvtier_ops.model.attention import heads_of, kv_layers
from kvtier_ops.model.config_json import Config, architecture_of, layer_count, read_config
from kvtier_ops.model.families import Family
from kvtier_ops.model.gguf_config import read_gguf_config
from kvtier_ops.model.gguf_header import read_gguf_header
from kvtier_ops.model.guess import guess_family
from kvtier_ops.model.kv_shape import KvShape
from kvtier_ops.model.parameters import count_from_config, ffn_of, idle_experts
from kvtier_ops.model.quantization import Quantization, quantization_of, quantized_bytes
from kvtier_ops.model.safetensors_header import StoredWeights, has_weights, measure_weights
from kvtier_ops.model.unreadable import unreadable

ITEM_BYTES: Mapping[str, int] = {"bfloat16": 2, "float16": 2, "float32": 4, "float8": 1}
SERVED = frozenset({"LlamaForCausalLM"})  # by the bundled engine; others can be planned for
STATE_ITEM_BYTES = 4  # states are kept in float32: what is lost by rounding would add up
_INNER_CONFIGS = ("text_config", "language_config", "llm_config")

Source = Literal["weights", "config"]


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
    is_guess: bool = False  # its architecture is not in kvtier's table; fields alone speak for it
    is_quantized: bool = False  # as published; GGUF, which the bundled engine unpacks, is not
    parameters_from: Source = "weights"
    weights_reason: str = ""  # what was counted, and in which form

    @property
    def is_served(self) -> bool:
        """By the bundled engine."""
        is_known = self.architecture in SERVED and not self.is_quantized
        return is_known and self.kv.geometry is not None


@dataclass(frozen=True)
class _Found:
    """A model's description, and what its files say of the weights."""

    config: Config
    architecture: str
    family: Family
    stored: StoredWeights | None = None
    quantization: Quantization | None = None
    is_guess: bool = False
    is_part: bool = False  # the language model inside of one that also sees or hears

    @property
    def is_unpacked(self) -> bool:
        """True if the bundled engine loads it: it holds all weights as one dtype."""
        return self.architecture in SERVED and self.quantization is None


@dataclass(frozen=True)
class _Counted:
    parameters: int
    active: int
    weight_bytes: int
    source: Source
    reason: str


def read_model(path: Path, dtype: Dtype, kv_dtype: str = "auto") -> ModelFacts:
    """A Hugging Face folder, its config.json alone, or a GGUF file -> its sizes as `dtype`.

    `kv_dtype`: of the numbers in the cache; `auto`: the same. A folder may be without weights:
    then they are counted from config.json.

    Raises ModelError if it is missing, incomplete or of an architecture not understood.
    """
    try:
        found = _read(path)
    except OSError as error:  # a folder whose files may not even be looked at
        raise unreadable(path, error) from error
    config, family = found.config, found.family
    heads = heads_of(config, family)
    counted = _count(found, dtype)
    kv_item_bytes = ITEM_BYTES[dtype if kv_dtype == "auto" else kv_dtype]
    return ModelFacts(
        path=path,
        architecture=found.architecture,
        kv=KvShape(kv_layers(config, family), kv_item_bytes, STATE_ITEM_BYTES),
        parameters=counted.parameters,
        active_parameters=counted.active,
        weight_bytes=counted.weight_bytes,
        query_heads=heads.query,
        head_dim=heads.dim,
        layers=layer_count(config),
        hidden=config.count("hidden_size"),
        ffn=ffn_of(config, family),
        vocab=config.count("vocab_size"),
        max_context_tokens=config.count("max_position_embeddings"),
        is_guess=found.is_guess,
        is_quantized=found.quantization is not None,
        parameters_from=counted.source,
        weights_reason=counted.reason,
    )


def _read(path: Path) -> _Found:
    if path.is_dir():
        return _read_folder(path)
    if path.is_file():
        return _read_config(path) if path.suffix == ".json" else _read_gguf(path)
    raise ModelError(
        f"there is no model at `{path}`",
        "name a Hugging Face folder, a GGUF file or a model of `kvtier model list`",
    )


def _read_folder(folder: Path) -> _Found:
    stored = measure_weights(folder) if has_weights(folder) else None
    return replace(_read_config(folder), stored=stored)


def _read_config(place: Path) -> _Found:
    config = read_config(place)
    found = _find_family(config)
    return replace(found, quantization=quantization_of(config) or quantization_of(found.config))


def _find_family(config: Config) -> _Found:
    """By the name of the architecture, else by that of the language model inside, else a guess.

    Where there is a language model inside, it is read there.
    """
    named = architecture_of(config)
    for inner in _INNER_CONFIGS:
        if isinstance(config.values.get(inner), dict):
            part = config.inner(inner)
            key = next((key for key in _inner_keys(part, named) if key in FAMILIES), None)
            found = _known(part, named, key) if key else _guessed(part, named)
            return replace(found, is_part=True)
    return _known(config, named, named) if named in FAMILIES else _guessed(config, named)


def _inner_keys(part: Config, named: str) -> tuple[str, ...]:
    """What may name the architecture of the language model inside, best first."""
    kind, own = part.values.get("model_type"), part.values.get("architectures")
    by_kind = TEXT_MODELS.get(kind, "") if isinstance(kind, str) else ""
    by_name = own[0] if isinstance(own, list) and own and isinstance(own[0], str) else ""
    return by_kind, by_name, named


def _known(config: Config, named: str, key: str) -> _Found:
    family = FAMILIES[key]
    return _Found(config.of(family.names, family.defaults), named, family)


def _guessed(config: Config, named: str) -> _Found:
    family = guess_family(config, named)
    return _Found(config.of(family.names, family.defaults), named, family, is_guess=True)


def _read_gguf(path: Path) -> _Found:
    header = read_gguf_header(path)
    architecture, config = read_gguf_config(path, header)
    if architecture not in FAMILIES:
        raise ModelError(
            f"`{path}` is a {architecture:.40}, which kvtier does not know as GGUF",
            "name the model's Hugging Face folder instead",
        )
    family = replace(FAMILIES[architecture], names={}, kv_heads=None, ffn=None)
    stored = StoredWeights(
        elements=sum(tensor.elements for tensor in header.tensors.values()),
        bytes=max(0, path.stat().st_size - header.end),
        is_packed=True,
    )
    return _Found(config.of({}, family.defaults), architecture, family, stored)


def _count(found: _Found, dtype: Dtype) -> _Counted:
    """Headers of weights win over the config: they know what is really there."""
    config, stored = found.config, found.stored
    if stored is None:
        return _count_config(found, dtype)
    if found.is_unpacked or not (stored.is_packed or found.quantization):
        elements, size = stored.elements, stored.elements * ITEM_BYTES[dtype]
        active = max(0, elements - idle_experts(config, found.family))
        return _Counted(elements, active, size, "weights", f"{elements:,} parameters as {dtype}")
    form = f"in {stored.bytes:,} bytes, as the files hold them"
    if found.quantization and found.family.weights:  # packed numbers are not parameters
        counted = count_from_config(config, found.family)
        reason = f"{counted.total:,} parameters {form}"
        return _Counted(counted.total, counted.active, stored.bytes, "config", reason)
    active = max(0, stored.elements - idle_experts(config, found.family))
    reason = f"{stored.elements:,} parameters {form}"
    return _Counted(stored.elements, active, stored.bytes, "weights", reason)


def _count_config(found: _Found, dtype: Dtype) -> _Counted:
    if found.family.weights is None:
        raise ModelError(
            f"`{found.config.source}`: the weights of {found.architecture} cannot be counted from "
            "its config alone",
            "download its *.safetensors as well",
        )
    counted = count_from_config(found.config, found.family)
    size, form = counted.total * ITEM_BYTES[dtype], str(dtype)
    if found.quantization is not None:
        size = quantized_bytes(counted, found.quantization, ITEM_BYTES[dtype])
        known = "" if found.quantization.millibits else ", whose size kvtier does not know"
        form = f"{dtype} and {found.quantization.name}{known}"
    part = ", without the parts for images or sound" if found.is_part else ""
    reason = f"{counted.total:,} parameters as {form}, from config.json alone{part}"
    return _Counted(counted.total, counted.active, size, "config", reason)
