"""Batch: the chunks of one step as tensors, ready for the forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Span:
    """One chunk's place in the batch. All numbers are tokens, but for `chunk`."""

    chunk: int  # row of the page table
    first: int  # index of its first token in the batch
    count: int
    start: int  # position of its first token in its sequence

    @property
    def end(self) -> int:
        """Tokens of the sequence that its last token attends to, itself included."""
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class Batch:
    """The chunks of one step, their tokens one after another.

    T is the number of tokens, C that of chunks, P the longest page table's length. Every
    tensor lies on the model's device.
    """

    token_ids: torch.Tensor  # [T] int64
    positions: torch.Tensor  # [T] int64: each token's place in its sequence
    write_pages: torch.Tensor  # [T] int64: the L1 page that takes each token's K and V
    write_offsets: torch.Tensor  # [T] int64: and its place in that page
    page_table: torch.Tensor  # [C, P] int32: a chunk's pages from position 0 on, then zeros
    query_starts: torch.Tensor  # [C + 1] int32: first token of each chunk, then T
    contexts: torch.Tensor  # [C] int32: tokens in the cache that the chunk's last one sees
    spans: tuple[Span, ...]  # the same, for code that loops over chunks on the host
