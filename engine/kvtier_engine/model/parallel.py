"""How a model is split over ranks: which heads, ffn columns and vocabulary rows are whose."""

from __future__ import annotations

from typing import Protocol

import torch

from kvtier_engine.attention.base import AttentionShape
from kvtier_engine.model.errors import ModelError
from kvtier_engine.model.spec import ModelSpec


class Ranks(Protocol):
    """The ranks that share a model, as the layers see them (runner.distributed.RankGroup)."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def all_reduce(self, values: torch.Tensor) -> None:
        """Replaces `values` by their sum over all ranks, on every rank."""

    def gather(self, values: torch.Tensor) -> list[torch.Tensor] | None:
        """Every rank's `values`, of one shape, in rank order on rank 0; None elsewhere."""


def check_parallel(spec: ModelSpec, size: int) -> None:
    """Raises ModelError if the model cannot be split over `size` ranks."""
    if spec.kv_heads % size:
        fitting = [count for count in range(1, spec.kv_heads + 1) if spec.kv_heads % count == 0]
        raise ModelError(
            f"the model's {spec.kv_heads} kv heads cannot be split over {size} ranks",
            f"set `parallel.tensor_parallel` to one of {', '.join(map(str, fitting))}",
        )


def rank_heads(spec: ModelSpec, size: int) -> AttentionShape:
    """The heads of each of `size` ranks: kv heads and the query heads of their groups."""
    return AttentionShape(spec.heads // size, spec.kv_heads // size, spec.head_dim)


def share(total: int, rank: int, size: int) -> range:
    """The part of `total` things that `rank` of `size` owns: contiguous, in rank order, and
    the shares differ by one at most."""
    return range(total * rank // size, total * (rank + 1) // size)
