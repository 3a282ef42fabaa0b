"""CausalModel: what the runner needs of a model family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

from kvtier_engine.attention.base import AttentionBackend, AttentionShape
from kvtier_engine.model.layers import Place
from kvtier_engine.model.spec import ModelSpec
from kvtier_engine.model.weights import Part


class CausalModel(Protocol):
    """A decoder-only model, or one rank's share of it. Made with weights unset."""

    attention_shape: AttentionShape
    unused_tensors: tuple[str, ...]  # names a checkpoint may hold that are not wanted

    def __init__(self, spec: ModelSpec, place: Place) -> None: ...

    def parts(self) -> Iterator[Part]:
        """Everything that weights.load_weights has to fill."""

    def prepare(self) -> None:
        """Call once, when all parts are filled and before the first `forward`."""

    def forward(
        self, token_ids: torch.Tensor, rows: torch.Tensor, attention: AttentionBackend
    ) -> torch.Tensor | None:
        """Computes `token_ids` [T] and returns the logits [len(rows), vocab] float32 of the
        tokens at `rows` on rank 0, None on other ranks. `attention` has begun the batch."""
