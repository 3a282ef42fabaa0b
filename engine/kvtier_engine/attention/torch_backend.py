"""Attention in plain torch: any device, any dtype. The reference that the others must match."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from kvtier_engine.attention.base import AttentionParts
from kvtier_engine.attention.batch import Batch, Span
from kvtier_engine.attention.rope import rotate


class TorchAttention:
    """Gathers each chunk's pages and calls torch's own attention, chunk by chunk."""

    def __init__(self, parts: AttentionParts) -> None:
        self.shape = parts.shape
        self.cache = parts.cache
        self.rope = parts.rope
        self.batch: Batch | None = None
        self.cos_sin = parts.rope[:0]
        self.masks: list[torch.Tensor | None] = []

    def begin(self, batch: Batch) -> None:
        self.batch = batch
        self.cos_sin = self.rope[batch.positions]
        self.masks = [self._mask(span) for span in batch.spans]

    def attend(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        assert self.batch is not None, "begin() comes first"
        query, key, value = self.shape.split(qkv)
        query = rotate(query, self.cos_sin)
        self.cache.write(layer, rotate(key, self.cos_sin), value, self.batch)
        out = torch.empty_like(query)
        for span, mask in zip(self.batch.spans, self.masks, strict=True):
            rows = slice(span.first, span.first + span.count)
            pages = self.batch.page_table[span.chunk, : -(-span.end // self.cache.page_tokens)]
            attended = scaled_dot_product_attention(
                query[rows].transpose(0, 1)[None],
                self._gather(self.cache.keys(layer), pages, span.end),
                self._gather(self.cache.values(layer), pages, span.end),
                attn_mask=mask,
                is_causal=mask is None and span.count > 1,
            )
            out[rows] = attended[0].transpose(0, 1)
        return out.flatten(1)

    def _gather(self, pool: torch.Tensor, pages: torch.Tensor, tokens: int) -> torch.Tensor:
        """[1, heads, tokens, head_dim]: a sequence's keys or values, each kv head repeated for
        the query heads of its group (torch's fast kernels do not take groups)."""
        gathered = pool[pages].transpose(0, 1).flatten(1, 2)[:, :tokens]
        group = self.shape.heads // self.shape.kv_heads
        return gathered.repeat_interleave(group, dim=0)[None]

    def _mask(self, span: Span) -> torch.Tensor | None:
        """[count, end] bool, true where a token may look; None where torch needs no mask."""
        if span.start == 0 or span.count == 1:
            return None
        device = self.cache.storage.device
        seen_by = torch.arange(span.start, span.end, device=device)
        return torch.arange(span.end, device=device) <= seen_by[:, None]
