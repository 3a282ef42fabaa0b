"""Attention over the CPU kernels (kvtier_engine._kernels), which read the pages as they lie."""

from __future__ import annotations

import torch

from kvtier_engine import _kernels
from kvtier_engine.attention.base import AttentionParts, AttentionShape
from kvtier_engine.attention.batch import Batch
from kvtier_engine.attention.cache import PagedCache

DTYPE_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

_HEAD_DIMS = range(32, 256 + 1, 16)


def supports(shape: AttentionShape, dtype: torch.dtype) -> bool:
    """True if the kernels take heads of this shape and dtype."""
    return shape.head_dim in _HEAD_DIMS and dtype in DTYPE_NAMES


class NativeAttention:
    """Two calls a layer: rotate and write, then attend."""

    def __init__(self, parts: AttentionParts) -> None:
        self.shape = parts.shape
        self.cache = parts.cache
        self.rope = parts.rope
        self.scale = parts.shape.head_dim**-0.5
        layers = range(parts.cache.storage.shape[2])
        self.pools = [_pool(parts.cache, layer) for layer in layers]
        self.batch: _kernels.Batch | None = None
        self.out = torch.empty(0)

    def begin(self, batch: Batch) -> None:
        self.batch = _kernels.Batch(
            query_starts_addr=batch.query_starts.data_ptr(),
            contexts_addr=batch.contexts.data_ptr(),
            page_tables_addr=batch.page_table.data_ptr(),
            sequences=len(batch.spans),
            table_stride=batch.page_table.shape[1],
            page_tokens=self.cache.page_tokens,
        )
        width = self.shape.heads * self.shape.head_dim
        tokens = len(batch.token_ids)
        if len(self.out) != tokens:
            self.out = torch.empty(tokens, width, dtype=self.cache.storage.dtype)

    def attend(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        assert self.batch is not None, "begin() comes first"
        shape, stride = self.shape, self.shape.qkv_width
        head_bytes = shape.head_dim * qkv.itemsize
        query_address = qkv.data_ptr()
        key_address = query_address + shape.heads * head_bytes
        value_address = key_address + shape.kv_heads * head_bytes
        query = _kernels.Heads(query_address, shape.heads, stride, shape.head_dim)
        rope_address = self.rope.data_ptr()
        half = shape.head_dim // 2
        _kernels.rope_write(
            self.batch,
            self.pools[layer],
            query,
            _kernels.Heads(key_address, shape.kv_heads, stride, shape.head_dim),
            _kernels.Heads(value_address, shape.kv_heads, stride, shape.head_dim),
            cos_addr=rope_address,
            sin_addr=rope_address + half * self.rope.itemsize,
            rotary_dim=shape.head_dim,
            positions=len(self.rope),
            table_stride=2 * half,
        )
        width = shape.heads * shape.head_dim
        out = _kernels.Heads(self.out.data_ptr(), shape.heads, width, shape.head_dim)
        _kernels.attention(self.batch, self.pools[layer], query, out, scale=self.scale)
        return self.out


def _pool(cache: PagedCache, layer: int) -> _kernels.PagePool:
    page, head, _, which, token, _ = cache.storage.stride()
    return _kernels.PagePool(
        addr=cache.keys(layer).data_ptr(),
        dtype=DTYPE_NAMES[cache.storage.dtype],
        pages=cache.storage.shape[0],
        kv_heads=cache.storage.shape[1],
        page_tokens=cache.page_tokens,
        head_dim=cache.head_dim,
        page_stride=page,
        head_stride=head,
        kv_stride=which,
        token_stride=token,
    )
