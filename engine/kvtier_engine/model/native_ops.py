"""Ops over the CPU kernels (kvtier_engine._kernels): few calls, fused, on buffers kept."""

from __future__ import annotations

import torch

from kvtier_engine import _kernels
from kvtier_engine.model.ops import Matrix
from kvtier_engine.model.scratch import Scratch

DTYPE_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class NativeOps:
    """One a model. Rows are contiguous and of the model's dtype."""

    def __init__(self) -> None:
        self._products = Scratch()
        self._norms = Scratch()
        self._gated = Scratch()

    def matrix(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        out: torch.dtype | None = None,
    ) -> Matrix:
        return PackedMatrix(weight, bias, out or weight.dtype, self._products)

    def norm(self, values: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        rows, width = values.shape
        out, address = self._norms.take(rows, width, values.dtype)
        _kernels.rms_norm(
            values.data_ptr(),
            address,
            weight.data_ptr(),
            rows,
            width,
            eps,
            DTYPE_NAMES[values.dtype],
        )
        return out

    def add_norm(
        self, stream: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        rows, width = stream.shape
        out, address = self._norms.take(rows, width, stream.dtype)
        _kernels.rms_norm(
            delta.data_ptr(),
            address,
            weight.data_ptr(),
            rows,
            width,
            eps,
            DTYPE_NAMES[stream.dtype],
            residual_addr=stream.data_ptr(),
        )
        return out

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out, address = self._gated.take(rows, width, gate_up.dtype)
        gate = gate_up.data_ptr()
        _kernels.silu_mul(
            gate,
            gate + width * gate_up.itemsize,
            address,
            rows,
            width,
            DTYPE_NAMES[gate_up.dtype],
            gate_stride=2 * width,
            up_stride=2 * width,
        )
        return out


class PackedMatrix:
    """A weight in the kernels' own order; the tensor that it was made from may go."""

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        out: torch.dtype,
        products: Scratch,
    ) -> None:
        self._packed = _kernels.PackedWeight(
            weight.data_ptr(),
            weight.shape[0],
            weight.shape[1],
            DTYPE_NAMES[weight.dtype],
            weight.stride(0),
        )
        self._width, self._depth = weight.shape
        self._bias = bias
        self._bias_address = 0 if bias is None else bias.data_ptr()
        self._out = out
        self._out_name = DTYPE_NAMES[out]
        self._products = products

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        rows = values.shape[0]
        out, address = self._products.take(rows, self._width, self._out)
        _kernels.linear(
            self._packed,
            values.data_ptr(),
            rows,
            self._depth,
            address,
            self._width,
            self._out_name,
            self._bias_address,
        )
        return out
