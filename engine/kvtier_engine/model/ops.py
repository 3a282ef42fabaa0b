"""Ops: the operations that layers are made of, behind one protocol with two implementations.

TorchOps runs anywhere and is the reference; model.native_ops runs the CPU kernels.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch.nn.functional import linear, rms_norm, silu


class Matrix(Protocol):
    """A linear layer's weight [n, k] and bias, ready to be multiplied with."""

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """`values` [T, k] to [T, n]."""


class Ops(Protocol):
    """Each operation may answer in a buffer of its own that its next call overwrites: use a
    result before asking the same operation again, and keep none from one step to the next."""

    def matrix(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        out: torch.dtype | None = None,
    ) -> Matrix:
        """Prepares `weight`, whose values must not change afterwards. The product has dtype
        `out` (None: the weight's). The caller should let go of the weight: it may be copied."""

    def norm(self, values: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """RMS norm of each row of `values` [T, width], computed in float32."""

    def add_norm(
        self, stream: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """Adds `delta` to `stream`, both [T, width], in place; returns the norm of the sum."""

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up of [T, 2 * width], gate's columns first: [T, width]."""


class TorchOps:
    """Plain torch, on any device."""

    def matrix(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        out: torch.dtype | None = None,
    ) -> Matrix:
        if out is None or out == weight.dtype:
            return lambda values: linear(values, weight, bias)
        return lambda values: linear(values, weight, bias).to(out)

    def norm(self, values: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return rms_norm(values, weight.shape, weight, eps)

    def add_norm(
        self, stream: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        return rms_norm(stream.add_(delta), weight.shape, weight, eps)

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return silu(gate).mul_(up)
