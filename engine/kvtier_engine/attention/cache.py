"""PagedCache: L1, one tensor whose pages hold all layers, seen one layer at a time."""

from __future__ import annotations

import torch

from kvtier_engine.attention.batch import Batch


class PagedCache:
    """This rank's part of L1: `[pages, kv_heads/tp, layers, 2, page_tokens, head_dim]`.

    A page's part is one contiguous run of bytes, so tiers copy it whole; a layer's keys
    and values are strided views, which attention takes as they are.
    """

    def __init__(self, storage: torch.Tensor) -> None:
        assert storage.dim() == 6, storage.shape
        assert storage.is_contiguous()
        self.storage = storage
        self.page_tokens = storage.shape[4]
        self.head_dim = storage.shape[5]
        layers = range(storage.shape[2])
        self._keys = [storage[:, :, layer, 0] for layer in layers]
        self._values = [storage[:, :, layer, 1] for layer in layers]

    def keys(self, layer: int) -> torch.Tensor:
        """[pages, kv_heads, page_tokens, head_dim], a view."""
        return self._keys[layer]

    def values(self, layer: int) -> torch.Tensor:
        """[pages, kv_heads, page_tokens, head_dim], a view."""
        return self._values[layer]

    def page_bytes_view(self) -> torch.Tensor:
        """[pages, bytes of this rank's part of a page] uint8, the same memory."""
        return self.storage.flatten(1).view(torch.uint8)

    def write(self, layer: int, key: torch.Tensor, value: torch.Tensor, batch: Batch) -> None:
        """Stores `key` and `value`, both [T, kv_heads, head_dim], at the batch's places."""
        self._keys[layer][batch.write_pages, :, batch.write_offsets] = key
        self._values[layer][batch.write_pages, :, batch.write_offsets] = value
