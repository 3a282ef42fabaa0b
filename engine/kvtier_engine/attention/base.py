"""AttentionBackend: all that happens between the qkv projection and the output projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from kvtier_engine.attention.batch import Batch
from kvtier_engine.attention.cache import PagedCache


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """This rank's heads."""

    heads: int
    kv_heads: int
    head_dim: int

    @property
    def qkv_width(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    def split(self, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Views of `qkv` [T, qkv_width]: q [T, heads, head_dim]; k, v [T, kv_heads, head_dim]."""
        rows = qkv.view(qkv.shape[0], self.heads + 2 * self.kv_heads, self.head_dim)
        first_value = self.heads + self.kv_heads
        return rows[:, : self.heads], rows[:, self.heads : first_value], rows[:, first_value:]


class AttentionBackend(Protocol):
    """Rotates, caches and attends. One object serves all layers of one model on one rank."""

    def begin(self, batch: Batch) -> None:
        """Prepares for a step; every `attend` until the next `begin` is about `batch`."""

    def attend(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """Rotates q and k, writes k and v to the batch's places in L1, and attends causally.

        `qkv` is [T, qkv_width], q's heads first, then k's, then v's; it may be overwritten.
        Returns [T, heads * head_dim] of the same dtype, valid until the next call.
        """


@dataclass(frozen=True, slots=True)
class AttentionParts:
    """What every backend is made from."""

    shape: AttentionShape
    cache: PagedCache
    rope: torch.Tensor  # [positions, 2, head_dim / 2] float32, on the cache's device
