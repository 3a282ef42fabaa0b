"""Which attention backend fits a device, a dtype and a model."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Literal

import torch

from kvtier_engine.attention.base import AttentionBackend, AttentionParts, AttentionShape
from kvtier_engine.attention.torch_backend import TorchAttention

logger = logging.getLogger(__name__)

AttentionName = Literal["native", "torch", "flashinfer"]
AttentionWish = Literal["auto", "native", "torch", "flashinfer"]


class AttentionUnavailable(Exception):
    """The backend that was asked for cannot run here; the message says why."""


def choose_attention(
    wish: AttentionWish, shape: AttentionShape, device: torch.device, dtype: torch.dtype
) -> AttentionName:
    """The backend to use; `auto` takes the fastest that works here, and torch always does.

    Raises AttentionUnavailable for another wish that cannot be met.
    """
    if wish == "torch":
        return "torch"
    if wish != "auto":
        obstacle = _obstacle(wish, shape, device, dtype)
        if obstacle:
            raise AttentionUnavailable(f"attention {wish} cannot be used: {obstacle}")
        return wish
    best: AttentionName = "flashinfer" if device.type == "cuda" else "native"
    obstacle = _obstacle(best, shape, device, dtype)
    if obstacle:
        logger.warning("attention falls back from %s to torch, which is slower: %s", best, obstacle)
        return "torch"
    return best


def make_attention(name: AttentionName, parts: AttentionParts) -> AttentionBackend:
    """Makes the backend that `choose_attention` named."""
    if name == "native":
        from kvtier_engine.attention.native_backend import NativeAttention

        return NativeAttention(parts)
    if name == "flashinfer":
        from kvtier_engine.attention.flashinfer_backend import FlashInferAttention

        return FlashInferAttention(parts)
    return TorchAttention(parts)


def _obstacle(
    name: AttentionName, shape: AttentionShape, device: torch.device, dtype: torch.dtype
) -> str:
    """Why `name` cannot be used; empty if it can."""
    if name == "flashinfer":
        if device.type != "cuda":
            return "it needs a CUDA device"
        if find_spec("flashinfer") is None:
            return "flashinfer-python is not installed (pip install 'kvtier[flashinfer]')"
        return "" if dtype != torch.float32 else "it computes in bfloat16 or float16 only"
    if device.type != "cpu":
        return "its kernels are for the CPU"
    try:
        from kvtier_engine.attention.native_backend import supports
    except ImportError as error:
        return f"kvtier was built without its CPU kernels ({error})"
    if supports(shape, dtype):
        return ""
    return f"it does not take heads of {shape.head_dim} numbers in {dtype}"
