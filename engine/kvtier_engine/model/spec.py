"""ModelSpec: what a model folder's config.json says, checked and with one name a thing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kvtier_engine.config import Dtype, KvGeometry
from kvtier_engine.model import ARCHITECTURES
from kvtier_engine.model.errors import ModelError

DTYPE_BYTES: dict[Dtype, int] = {"bfloat16": 2, "float16": 2, "float32": 4}

RopeKind = Literal["default", "linear", "llama3"]
_ROPE_KINDS: tuple[RopeKind, ...] = ("default", "linear", "llama3")


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary position embedding. The last three are llama3's, `factor` is linear's too."""

    theta: float
    kind: RopeKind = "default"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_positions: int = 8192


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder-only model's shape. Counts are over all ranks."""

    architecture: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    max_positions: int
    norm_eps: float
    rope: RopeSpec
    tie_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    eos_ids: tuple[int, ...]

    def geometry(self, dtype: Dtype) -> KvGeometry:
        """The shape of this model's KV cache when it is kept as `dtype`."""
        return KvGeometry(
            layers=self.layers,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            item_bytes=DTYPE_BYTES[dtype],
        )


def read_spec(folder: Path) -> ModelSpec:
    """Reads `folder`/config.json and, if it is there, generation_config.json.

    Raises ModelError if a file is missing or damaged, if the architecture or one of its
    options is not supported, or if numbers contradict one another.
    """
    source = _Source(folder / "config.json", _read_json(folder / "config.json"))
    architecture = _architecture(source)
    hidden, heads = source.count("hidden_size"), source.count("num_attention_heads")
    spec = ModelSpec(
        architecture=architecture,
        layers=source.count("num_hidden_layers"),
        hidden=hidden,
        ffn=source.count("intermediate_size"),
        heads=heads,
        kv_heads=source.count("num_key_value_heads", heads),
        head_dim=source.count("head_dim", hidden // heads),
        vocab=source.count("vocab_size"),
        max_positions=source.count("max_position_embeddings"),
        norm_eps=source.number("rms_norm_eps", 1e-6),
        rope=_rope(source),
        tie_embeddings=source.flag("tie_word_embeddings"),
        attention_bias=source.flag("attention_bias"),
        mlp_bias=source.flag("mlp_bias"),
        eos_ids=_eos_ids(folder, source),
    )
    _check(spec, source)
    return spec


class _Source:
    """A JSON object with the file it came from, so that every complaint names the place."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path = path
        self.values = values

    def error(self, field: str, complaint: str, hint: str = "") -> ModelError:
        return ModelError(f"{self.path}: `{field}` {complaint}", hint)

    def count(self, field: str, default: int | None = None) -> int:
        value = self.values.get(field)
        if value is None:
            value = default
        if value is None:
            raise self.error(field, "is missing", "download the model again")
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise self.error(field, f"must be a whole number above 0, not {value!r}")
        return value

    def number(self, field: str, default: float) -> float:
        value = self.values.get(field)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise self.error(field, f"must be a number above 0, not {value!r}")
        return float(value)

    def flag(self, field: str) -> bool:
        value = self.values.get(field, False)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.error(field, f"must be true or false, not {value!r}")
        return value

    def section(self, field: str) -> _Source | None:
        value = self.values.get(field)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(field, f"must be an object, not {value!r}")
        return _Source(self.path, value)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(
            f"{path} does not exist",
            "`model.path` must be a Hugging Face folder (config.json, *.safetensors, tokenizer) "
            "or a .gguf file",
        ) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", "download the model again") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a JSON object", "download the model again")
    return values


def _architecture(source: _Source) -> str:
    named = source.values.get("architectures")
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise source.error("architectures", f"must name the model's class, not be {named!r}")
    if named[0] not in ARCHITECTURES:
        raise source.error(
            "architectures",
            f"is {named[0]}, which is not supported",
            f"supported: {', '.join(ARCHITECTURES)}",
        )
    if source.values.get("hidden_act", "silu") != "silu":
        raise source.error("hidden_act", f"must be silu, not {source.values['hidden_act']!r}")
    if source.values.get("quantization_config") is not None:
        raise source.error(
            "quantization_config",
            "says that the weights are quantized, which is not supported",
            "use the unquantized model, or a GGUF file",
        )
    return named[0]


def _rope(source: _Source) -> RopeSpec:
    """Reads `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before)."""
    parameters = source.section("rope_parameters") or source.section("rope_scaling")
    parameters = parameters or _Source(source.path, {})
    theta = parameters.number("rope_theta", source.number("rope_theta", 10_000.0))
    named = parameters.values.get("rope_type", parameters.values.get("type", "default"))
    kind = next((kind for kind in _ROPE_KINDS if kind == named), None)
    if kind is None:
        raise source.error(
            "rope_type", f"is {named!r}, which is not supported", f"supported: {_ROPE_KINDS}"
        )
    if kind == "default":
        return RopeSpec(theta=theta)
    if "factor" not in parameters.values:
        raise source.error("factor", f"is missing beside rope_type {kind}")
    factor = parameters.number("factor", 1.0)
    if kind == "linear":
        return RopeSpec(theta=theta, kind=kind, factor=factor)
    return RopeSpec(
        theta=theta,
        kind=kind,
        factor=factor,
        low_frequency_factor=parameters.number("low_freq_factor", 1.0),
        high_frequency_factor=parameters.number("high_freq_factor", 4.0),
        original_positions=parameters.count("original_max_position_embeddings", 8192),
    )


def _eos_ids(folder: Path, source: _Source) -> tuple[int, ...]:
    """Ids that end an answer: generation_config.json's (it may list several) or config.json's."""
    generation = folder / "generation_config.json"
    for place in (
        [_Source(generation, _read_json(generation)), source] if generation.exists() else [source]
    ):
        value = place.values.get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
            raise place.error(
                "eos_token_id", f"must be a token id or a list of them, not {value!r}"
            )
        if ids:
            return tuple(ids)
    return ()


def _check(spec: ModelSpec, source: _Source) -> None:
    if spec.heads % spec.kv_heads:
        raise source.error(
            "num_key_value_heads",
            f"({spec.kv_heads}) must divide num_attention_heads ({spec.heads})",
        )
    if spec.head_dim % 2:
        raise source.error("head_dim", f"({spec.head_dim}) must be even: it is rotated in halves")
    outside = [token for token in spec.eos_ids if not 0 <= token < spec.vocab]
    if outside:
        raise source.error("eos_token_id", f"{outside} lies outside vocab_size ({spec.vocab})")
