"""Attention by FlashInfer on CUDA (the optional extra `flashinfer`).

Written to FlashInfer's documented interface: paged prefill with a page pool given as a
tuple of K and V in layout HND, taken by their strides, so that the layers may lie inside
the page. scripts/gpu_check.sh runs it against TorchAttention where the package is there.
"""

from __future__ import annotations

import numpy as np
import torch

from kvtier_engine.attention.base import AttentionParts
from kvtier_engine.attention.batch import Batch
from kvtier_engine.attention.rope import rotate

# The size that FlashInfer's documentation recommends.
_WORKSPACE_BYTES = 128 << 20


class FlashInferAttention:
    """One plan a step, then one kernel a layer, prefill chunks and decodes in one batch."""

    def __init__(self, parts: AttentionParts) -> None:
        """Raises ImportError if flashinfer is not installed."""
        import flashinfer

        self.shape = parts.shape
        self.cache = parts.cache
        self.rope = parts.rope
        self.batch: Batch | None = None
        self.cos_sin = parts.rope[:0]
        workspace = torch.empty(
            _WORKSPACE_BYTES, dtype=torch.uint8, device=parts.cache.storage.device
        )
        self.wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace, "HND")

    def begin(self, batch: Batch) -> None:
        self.batch = batch
        self.cos_sin = self.rope[batch.positions]
        page_tokens = self.cache.page_tokens
        ends = np.array([span.end for span in batch.spans], dtype=np.int32)
        counts = (ends + page_tokens - 1) // page_tokens
        first_pages = np.concatenate(([0], counts.cumsum())).astype(np.int32)
        columns = torch.arange(batch.page_table.shape[1], device=batch.page_table.device)
        is_used = columns < torch.from_numpy(counts).to(columns.device)[:, None]
        self.wrapper.plan(
            batch.query_starts,
            torch.from_numpy(first_pages).to(columns.device),
            batch.page_table[is_used],
            torch.from_numpy((ends - 1) % page_tokens + 1).to(columns.device),
            self.shape.heads,
            self.shape.kv_heads,
            self.shape.head_dim,
            page_tokens,
            causal=True,
            q_data_type=self.cache.storage.dtype,
            kv_data_type=self.cache.storage.dtype,
        )

    def attend(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        assert self.batch is not None, "begin() comes first"
        query, key, value = self.shape.split(qkv)
        self.cache.write(layer, rotate(key, self.cos_sin), value, self.batch)
        pages = (self.cache.keys(layer), self.cache.values(layer))
        attended: torch.Tensor = self.wrapper.run(rotate(query, self.cos_sin), pages)
        return attended.flatten(1)
