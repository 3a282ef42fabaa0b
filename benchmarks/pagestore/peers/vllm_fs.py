"""vLLM's file-system tier (0.32.0), driven through its tier manager, one job a page.

One job a page lets all of its threads work; the engine puts the blocks of a request into one job,
which one thread works off.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace

import numpy as np
from vllm.v1.kv_offload.base import OffloadKey, ReqContext, make_offload_key
from vllm.v1.kv_offload.config import (
    OffloadingCacheConfig,
    OffloadingConfig,
    OffloadingGroupConfig,
    OffloadingModelConfig,
    OffloadingParallelConfig,
)
from vllm.v1.kv_offload.tiering.base import TransferJob
from vllm.v1.kv_offload.tiering.fs.manager import FileSystemTierManager

from pagestore import huge
from pagestore.peers.adapter import Adapter, Item, Setting, sync_file_system

TOKENS = 64


class VllmFs:
    def __init__(self, setting: Setting) -> None:
        self._folder = setting.folder
        [self._bytes] = huge.buffers(setting.slots * setting.page_bytes, 1)
        memory = np.frombuffer(self._bytes, dtype=np.int8)
        self._view = memoryview(memory.reshape(setting.slots, setting.page_bytes))
        self._page_bytes = setting.page_bytes
        self._tier = FileSystemTierManager(
            offloading_spec=_spec(setting),
            primary_kv_view=self._view,
            tier_type="fs",
            root_dir=str(setting.folder),
        )
        self._context = ReqContext(req_id="benchmark")
        self._next_job = 0

    def page(self, slot: int) -> memoryview:
        return self._bytes[slot * self._page_bytes : (slot + 1) * self._page_bytes]

    def put(self, batch: Sequence[Item]) -> None:
        for item in batch:
            self._tier.submit_store(self._job(item, False))
        assert all(self._finish().values()), "a store job failed"

    def get(self, batch: Sequence[Item]) -> list[memoryview | None]:
        jobs = [self._job(item, True) for item in batch]
        for job in jobs:
            self._tier.submit_load(job)
        succeeded = self._finish()
        pairs = zip(jobs, batch, strict=True)
        return [self.page(item.slot) if succeeded[job.job_id] else None for job, item in pairs]

    def sync(self) -> None:
        sync_file_system(self._folder)

    def close(self) -> None:
        self._tier.shutdown()

    def _job(self, item: Item, is_promotion: bool) -> TransferJob:
        self._next_job += 1
        keys: Iterable[OffloadKey] = [make_offload_key(item.key, 0)]
        slots = np.array([item.slot])
        return TransferJob(self._next_job, keys, slots, is_promotion, self._context)

    def _finish(self) -> dict[int, bool]:
        self._tier.drain_jobs()
        return {each.job_id: each.success for each in self._tier.get_finished_jobs()}


def _spec(setting: Setting) -> SimpleNamespace:
    """What the tier reads of its connector's settings: one worker, one group of layers."""
    config = OffloadingConfig(
        groups=(OffloadingGroupConfig(TOKENS, ("layer",), 0),),
        worker_kv_bytes_per_block=setting.page_bytes,
        enable_kv_cache_events=False,
        extra_config={},
        engine_id="benchmark",
        model=OffloadingModelConfig("benchmark", "bfloat16"),
        cache=OffloadingCacheConfig(TOKENS, 1),
        parallel=OffloadingParallelConfig(0, 1, 1, 1, 1, 1, 0, 1, None, True),
    )
    events = SimpleNamespace(enable_kv_cache_events=False)
    return SimpleNamespace(config=config, blocks_per_chunk=1, kv_events_config=events)


def open_adapter(setting: Setting) -> Adapter:
    return VllmFs(setting)
