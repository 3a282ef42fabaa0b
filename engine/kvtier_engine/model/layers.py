"""The layers that models are made of, each with its tensor-parallel split.

A layer owns its weights, says which rectangles of the checkpoint fill them (`parts`),
and computes. The activations between layers are [T, width], T tokens of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import embedding, pad

from kvtier_engine.model.ops import Matrix, Ops
from kvtier_engine.model.parallel import Ranks, share
from kvtier_engine.model.weights import Part


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer lives and what computes it."""

    ranks: Ranks
    ops: Ops
    device: torch.device
    dtype: torch.dtype

    def empty(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=self.dtype, device=self.device)


@dataclass(frozen=True, slots=True)
class Piece:
    """One of the checkpoint's matrices, split over ranks along its rows or its columns."""

    name: str
    total: int  # rows, or columns, in all
    own: range  # this rank's


class Embedding:
    """Token ids to vectors. Whole on every rank: a split table would cost an all-reduce a
    step to save what is small beside the layers, and a tied lm_head needs no second copy."""

    def __init__(self, name: str, vocab: int, hidden: int, place: Place) -> None:
        self.name = name
        self.weight = place.empty(vocab, hidden)

    def parts(self) -> Iterator[Part]:
        yield Part(f"{self.name}.weight", tuple(self.weight.shape), self.weight)

    def __call__(self, token_ids: torch.Tensor) -> torch.Tensor:
        return embedding(token_ids, self.weight)


class Norm:
    """RMS norm, computed in float32. Whole on every rank."""

    def __init__(self, name: str, width: int, eps: float, place: Place) -> None:
        self.name = name
        self.eps = eps
        self.ops = place.ops
        self.weight = place.empty(width)

    def parts(self) -> Iterator[Part]:
        yield Part(f"{self.name}.weight", tuple(self.weight.shape), self.weight)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return self.ops.norm(values, self.weight, self.eps)

    def add(self, stream: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """Adds `delta` to `stream` in place and returns the norm of the sum."""
        return self.ops.add_norm(stream, delta, self.weight, self.eps)


class Linear:
    """A weight [out, width] that is filled first and multiplied with after `prepare`."""

    matrix: Matrix

    def __init__(self, out: int, width: int, bias: bool, place: Place) -> None:
        self.ops = place.ops
        self.weight: torch.Tensor | None = place.empty(out, width)
        self.bias = place.empty(out) if bias else None

    def prepare(self, uses_bias: bool = True) -> None:
        """Call once, when the weights are there and before the first product."""
        assert self.weight is not None, "prepared twice"
        self.matrix = self.ops.matrix(self.weight, self.bias if uses_bias else None)
        self.weight = None  # the matrix may hold a copy


class ColumnLinear(Linear):
    """One or several matrices with the same input, fused; the outputs are split over ranks."""

    def __init__(self, pieces: Sequence[Piece], width: int, bias: bool, place: Place) -> None:
        super().__init__(sum(len(piece.own) for piece in pieces), width, bias, place)
        self.pieces = pieces

    def parts(self) -> Iterator[Part]:
        assert self.weight is not None, "prepared already"
        row = 0
        for piece in self.pieces:
            own = slice(row, row := row + len(piece.own))
            shape = (piece.total, self.weight.shape[1])
            yield Part(f"{piece.name}.weight", shape, self.weight[own], rows=piece.own)
            if self.bias is not None:
                yield Part(f"{piece.name}.bias", shape[:1], self.bias[own], rows=piece.own)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return self.matrix(values)


class RowLinear(Linear):
    """A matrix whose inputs are split over ranks; the ranks' outputs are added up."""

    def __init__(self, inputs: Piece, out: int, bias: bool, place: Place) -> None:
        super().__init__(out, len(inputs.own), bias, place)
        self.inputs = inputs
        self.ranks = place.ranks

    def parts(self) -> Iterator[Part]:
        assert self.weight is not None, "prepared already"
        shape = (self.weight.shape[0], self.inputs.total)
        yield Part(f"{self.inputs.name}.weight", shape, self.weight, columns=self.inputs.own)
        if self.bias is not None:
            yield Part(f"{self.inputs.name}.bias", shape[:1], self.bias)

    def prepare(self, uses_bias: bool = True) -> None:
        # The ranks' outputs are added up, so the bias is one rank's.
        super().prepare(uses_bias and self.ranks.rank == 0)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        out = self.matrix(values)
        self.ranks.all_reduce(out)
        return out


class GatedMlp:
    """silu(gate(x)) * up(x), then down; the ffn columns are split over ranks."""

    def __init__(self, name: str, width: int, ffn: int, bias: bool, place: Place) -> None:
        own = share(ffn, place.ranks.rank, place.ranks.size)
        gate, up, down = (Piece(f"{name}.{kind}_proj", ffn, own) for kind in ("gate", "up", "down"))
        self.ops = place.ops
        self.gate_up = ColumnLinear((gate, up), width, bias, place)
        self.down = RowLinear(down, width, bias, place)

    def parts(self) -> Iterator[Part]:
        yield from self.gate_up.parts()
        yield from self.down.parts()

    def prepare(self) -> None:
        self.gate_up.prepare()
        self.down.prepare()

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return self.down(self.ops.gate(self.gate_up(values)))


class LmHead:
    """Hidden vectors to logits. Split by vocabulary: the matrix is the model's largest and is
    read whole for every step, so each rank computes a part of it and rank 0 gathers them."""

    matrix: Matrix

    def __init__(self, name: str, embedding: Embedding, tied: bool, place: Place) -> None:
        vocab, hidden = embedding.weight.shape
        size = place.ranks.size
        self.name = name
        self.ops = place.ops
        self.ranks = place.ranks
        self.tied = tied
        self.shares = [len(share(vocab, rank, size)) for rank in range(size)]
        self.own = share(vocab, place.ranks.rank, size)
        self.weight: torch.Tensor | None = (
            embedding.weight[self.own.start : self.own.stop]
            if tied
            else place.empty(len(self.own), hidden)
        )

    def parts(self) -> Iterator[Part]:
        assert self.weight is not None, "prepared already"
        if not self.tied:
            shape = (sum(self.shares), self.weight.shape[1])
            yield Part(f"{self.name}.weight", shape, self.weight, rows=self.own)

    def prepare(self) -> None:
        assert self.weight is not None, "prepared twice"
        self.matrix = self.ops.matrix(self.weight, None, out=torch.float32)
        self.weight = None

    def __call__(self, values: torch.Tensor) -> torch.Tensor | None:
        """[rows, vocab] float32 on rank 0; None on the others."""
        own = self.matrix(values)
        if self.ranks.size == 1:
            return own
        # Shares differ by one row at most; gather wants one shape, so the short ones are padded.
        gathered = self.ranks.gather(pad(own, (0, max(self.shares) - own.shape[1])))
        if gathered is None:
            return None
        shares = zip(gathered, self.shares, strict=True)
        return torch.cat([rows[:, :size] for rows, size in shares], dim=1)
