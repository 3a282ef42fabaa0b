"""LightMem of late 2025, driven through its native service, which its Python class only wraps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import light_mem
import torch

from pagestore import huge
from pagestore.peers.adapter import Adapter, Item, Setting, sync_file_system

TOKENS = 64  # of a block, which is what a page is here
SHARDS = 32
WORKERS = 2  # they spin: of 1, 2, 4 and 16 the best on two cores
SPARE = 4  # a shard takes what its hash gives it, so that some fill up before others
POLL_S = 50e-6  # its tasks can only be polled


class LightMem:
    def __init__(self, setting: Setting) -> None:
        self._folder = setting.folder
        token_bytes = setting.page_bytes // TOKENS
        self._memory = torch.zeros(setting.slots * TOKENS, 1, token_bytes, dtype=torch.uint8)
        huge.collapse(self._memory.data_ptr(), self._memory.numel())
        self._bytes = memoryview(self._memory.numpy()).cast("B")
        self._page_bytes = setting.page_bytes
        self._service = light_mem.LocalCacheService(
            file=str(setting.folder / "cache"),
            storage_size=SPARE * setting.pages * setting.page_bytes,
            num_of_shard=SHARDS,
            kvcache=self._memory,
            num_workers=WORKERS,
        )
        assert self._service.block_size() == setting.page_bytes
        self._service.run()

    def page(self, slot: int) -> memoryview:
        return self._bytes[slot * self._page_bytes : (slot + 1) * self._page_bytes]

    def put(self, batch: Sequence[Item]) -> None:
        assert all(self._finish(batch, "w")), "a block was not written"

    def get(self, batch: Sequence[Item]) -> list[memoryview | None]:
        finished = zip(batch, self._finish(batch, "r"), strict=True)
        return [self.page(item.slot) if done else None for item, done in finished]

    def sync(self) -> None:
        sync_file_system(self._folder)

    def close(self) -> None:
        del self._service

    def _finish(self, batch: Sequence[Item], mode: str) -> list[bool]:
        places = [torch.arange(i.slot * TOKENS, (i.slot + 1) * TOKENS) for i in batch]
        hashes = [item.key.hex() for item in batch]
        task: Any = self._service.create(hashes, torch.cat(places).to(torch.int32), mode)
        while not task.ready():
            time.sleep(POLL_S)
        return [state == light_mem.State.Finished for state in task.state()]


def open_adapter(setting: Setting) -> Adapter:
    return LightMem(setting)
