"""LMCache's local disk backend (0.5.6) with O_DIRECT, driven through its own class."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import torch
from lmcache.utils import CacheEngineKey
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.memory_allocators.mixed_memory_allocator import MixedMemoryAllocator
from lmcache.v1.memory_management import MemoryFormat, MemoryObj
from lmcache.v1.storage_backend.local_cpu_backend import LocalCPUBackend
from lmcache.v1.storage_backend.local_disk_backend import LocalDiskBackend

from pagestore import huge
from pagestore.peers.adapter import Adapter, Item, Setting, sync_file_system

FORMAT = MemoryFormat.KV_2LTD


class LMCacheDisk:
    def __init__(self, setting: Setting) -> None:
        self._folder = setting.folder
        self._shape = torch.Size((2, 1, 64, setting.page_bytes // 256))  # k and v, layer, token
        config = LMCacheEngineConfig.from_defaults(
            local_cpu=False,
            local_disk=str(setting.folder),
            max_local_disk_size=setting.pages * setting.page_bytes / 2**30,
            extra_config={"use_odirect": True},
        )
        memory = MixedMemoryAllocator((2 * setting.slots + 2) * setting.page_bytes)
        memory.buffer.fill_(1)
        huge.collapse(memory.buffer.data_ptr(), memory.buffer.numel())
        self._cpu = LocalCPUBackend(config, dst_device="cpu", memory_allocator=memory)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._disk = LocalDiskBackend(config, self._loop, self._cpu, dst_device="cpu")
        self._sources = [self._allocate() for _ in range(setting.slots)]
        self._loaded: list[MemoryObj] = []

    def page(self, slot: int) -> memoryview:
        return memoryview(self._sources[slot].byte_array).cast("B")

    def put(self, batch: Sequence[Item]) -> None:
        written = threading.Semaphore(0)
        for item in batch:
            self._disk.submit_put_task(
                self._key(item), self._sources[item.slot], lambda _: written.release()
            )
        for _ in batch:
            assert written.acquire(timeout=60), "a put has not ended"

    def get(self, batch: Sequence[Item]) -> list[memoryview | None]:
        for each in self._loaded:
            each.ref_count_down()
        found = self._disk.batched_get_blocking([self._key(item) for item in batch])
        self._loaded = [each for each in found if each is not None]
        return [memoryview(each.byte_array).cast("B") if each else None for each in found]

    def sync(self) -> None:
        sync_file_system(self._folder)

    def close(self) -> None:
        self._disk.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _allocate(self) -> MemoryObj:
        memory = self._cpu.allocate(self._shape, torch.bfloat16, FORMAT)
        assert memory is not None, "LMCache has no memory for a page"
        return memory

    def _key(self, item: Item) -> CacheEngineKey:
        return CacheEngineKey("benchmark", 1, 0, int.from_bytes(item.key[:8]), torch.bfloat16)


def open_adapter(setting: Setting) -> Adapter:
    return LMCacheDisk(setting)
