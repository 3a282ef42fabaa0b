"""How many bytes weights take in the form in which a model was published.

Only used where the weights themselves are not there to be measured. What a quantization leaves
as it was (embedding, head, norms, routers) is counted in the dtype that the model is held in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kvtier_ops.model.config_json import Config
from kvtier_ops.model.parameters import Parameters

_NOT_CONVERTED = ("ignore", "modules_to_not_convert", "llm_int8_skip_modules")
_MILLIBITS = 1000  # sizes with their scales are not whole bits


@dataclass(frozen=True)
class Quantization:
    """`millibits`: thousandths of a bit that one weight takes, its share of the scales counted."""

    name: str
    millibits: int
    experts_only: bool = False


# Fixed forms: 32 weights share a byte (mxfp4), 16 a byte (nvfp4), 128 x 128 a float32 (fp8).
_FIXED: Mapping[str, Quantization] = {
    "mxfp4": Quantization("mxfp4", 4250, experts_only=True),
    "fp8": Quantization("fp8", 8002),
    "fbgemm_fp8": Quantization("fp8", 8008),
    "nvfp4": Quantization("nvfp4", 4500),
}


def quantization_of(config: Config) -> Quantization | None:
    """None: the weights are not quantized. One whose size is not known has 0 millibits.

    Raises ModelError where a known one contradicts itself.
    """
    if not config.has("quantization_config"):
        return None
    inner = config.inner("quantization_config")
    found = _by_method(inner)
    return replace(found, experts_only=True) if _leaves_attention(inner) else found


def _leaves_attention(config: Config) -> bool:
    """True if only experts are quantized: what is left as it was includes attention."""
    lists = (config.values.get(name) for name in _NOT_CONVERTED)
    return any("attn" in str(item) for each in lists if isinstance(each, list) for item in each)


def _by_method(inner: Config) -> Quantization:
    method = inner.text("quant_method") if inner.has("quant_method") else ""
    if method in _FIXED:
        return _FIXED[method]
    if method in ("awq", "gptq"):
        bits = inner.count("bits", 4, most=16)
        group = inner.value("group_size")
        # A scale in half precision and a zero point for each group; -1: for each row.
        shared = 0 if group in (None, -1) else (16 + bits) * _MILLIBITS // inner.count("group_size")
        return Quantization(f"{method} of {bits} bits", bits * _MILLIBITS + shared)
    if method == "bitsandbytes":
        is_4bit = inner.flag("load_in_4bit") or inner.flag("_load_in_4bit")
        scales = 127 if inner.flag("bnb_4bit_use_double_quant") else 500
        return Quantization(
            f"bitsandbytes of {4 if is_4bit else 8} bits", 4000 + scales if is_4bit else 8008
        )
    if method == "compressed-tensors":
        return _compressed(inner)
    if method == "modelopt" and inner.has("quant_algo"):
        return _FIXED.get(inner.text("quant_algo").lower(), Quantization(method, 0))
    return Quantization(method or "of an unnamed method", 0)


def _compressed(config: Config) -> Quantization:
    """The first group of `config_groups` speaks for all."""
    name = "compressed-tensors"
    groups = config.value("config_groups")
    if not isinstance(groups, dict) or not groups:
        return Quantization(name, 0)
    group = config.inner("config_groups").inner(next(iter(groups)))
    if not group.has("weights"):
        return Quantization(name, 0)
    weights = group.inner("weights")
    bits = weights.count("num_bits", 8, most=16)
    size = weights.count("group_size") if weights.value("group_size") not in (None, -1) else 0
    shared = 16 * _MILLIBITS // size if size else 0
    return Quantization(f"{name} of {bits} bits", bits * _MILLIBITS + shared)


def quantized_bytes(parameters: Parameters, quantization: Quantization, item_bytes: int) -> int:
    """Of all weights; one of unknown size is counted as not quantized, which is more."""
    small = parameters.experts if quantization.experts_only else parameters.matrices
    if not quantization.millibits:
        return parameters.total * item_bytes
    shrunk = -(-small * quantization.millibits // (8 * _MILLIBITS))
    return (parameters.total - small) * item_bytes + shrunk
