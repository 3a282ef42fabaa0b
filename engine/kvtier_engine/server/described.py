"""The configuration as labels of a metric: what a plan or a profile can be compared with.

No paths, keys or names of tenants: whoever reaches the server may read its metrics.
"""

from __future__ import annotations

from kvtier_engine.config import EngineConfig


def described(config: EngineConfig, version: str) -> dict[str, str]:
    """Labels of `kvtier_config_info`, see docs/operating.md. Sizes as they were at the start."""
    cache, scheduler = config.cache, config.scheduler
    l3 = cache.l3
    values = {
        "version": version,
        "served_name": config.model.served_name,
        "dtype": config.model.dtype,
        "device": config.device,
        "attention": config.attention,
        "tensor_parallel": config.parallel.tensor_parallel,
        "threads": config.parallel.threads_per_rank,
        "max_context_tokens": scheduler.max_context_tokens,
        "max_running": scheduler.max_running,
        "max_queued": scheduler.max_queued,
        "max_step_tokens": scheduler.max_step_tokens,
        "page_tokens": cache.page_tokens,
        "page_bytes": cache.page_bytes,
        "prefix_reuse": cache.prefix_reuse,
        "l1_pages": cache.l1.pages,
        "l1_eviction": cache.l1.eviction,
        "l2_pages": cache.l2.pages,
        "l2_eviction": cache.l2.eviction,
        "l2_hugepages": cache.l2.hugepages,
        "l3_directories": len(l3.directories),
        "l3_bytes": sum(each.capacity_bytes for each in l3.directories),
        "l3_eviction": l3.eviction,
        "l3_write": l3.write,
        "l3_admission": l3.admission,
        "l3_write_bytes_per_day": l3.write_bytes_per_day or 0,
        "l3_compute_while_loading": l3.compute_while_loading,
    }
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
    }
