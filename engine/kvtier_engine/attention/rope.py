"""Rotary position embedding: its frequencies, its table, and the rotation in torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from kvtier_engine.model.spec import RopeSpec


def inverse_frequencies(spec: RopeSpec, head_dim: int) -> torch.Tensor:
    """[head_dim / 2] float32: the angle each pair of numbers turns by from token to token."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    frequencies = 1.0 / (spec.theta**exponents)
    if spec.kind == "linear":
        return frequencies / spec.factor
    if spec.kind == "llama3":
        return _llama3(frequencies, spec)
    return frequencies


def _llama3(frequencies: torch.Tensor, spec: RopeSpec) -> torch.Tensor:
    """Slow frequencies are divided by the factor, fast ones kept, those between blended."""
    wavelengths = 2 * math.pi / frequencies
    low, high = spec.low_frequency_factor, spec.high_frequency_factor
    slow = wavelengths > spec.original_positions / low
    fast = wavelengths < spec.original_positions / high
    blend = (spec.original_positions / wavelengths - low) / (high - low)
    blended = (1 - blend) * frequencies / spec.factor + blend * frequencies
    scaled = torch.where(slow, frequencies / spec.factor, blended)
    return torch.where(fast, frequencies, scaled)


def rope_table(spec: RopeSpec, head_dim: int, positions: int) -> torch.Tensor:
    """[positions, 2, head_dim / 2] float32: the cosines, then the sines, of each position."""
    angles = torch.outer(torch.arange(positions).float(), inverse_frequencies(spec, head_dim))
    return torch.stack((angles.cos(), angles.sin()), dim=1)


def rotate(heads: torch.Tensor, cos_sin: torch.Tensor) -> torch.Tensor:
    """`heads` [T, heads, head_dim], first half paired with second, turned by `cos_sin`
    [T, 2, head_dim / 2] in float32. Returns a new tensor of the same dtype."""
    first, second = heads.float().chunk(2, dim=-1)
    cos, sin = cos_sin[:, 0, None], cos_sin[:, 1, None]
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(heads.dtype)
