"""A host as it was before an engine took its part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kvtier_ops.host.types import Host, HugepagePool

Pools = Mapping[int, HugepagePool]


def host_before(before: Host, now: Host) -> Host:
    """Disks as they are now; memory, hugepages and GPUs as they were when the launch began, less
    what has become hugepages since. What is missing of them the running engine has, and gives back
    when it ends."""
    nodes = {node.id: node.hugepages for node in now.numa_nodes}
    pools = _pools_before(before.hugepages, now.hugepages)
    grown = sum(size * (pool.total - before.hugepages[size].total) for size, pool in pools.items())
    return replace(
        before,
        file_systems=now.file_systems,
        directories=now.directories,
        name=now.name,
        memory_available_bytes=max(0, before.memory_available_bytes - grown),
        hugepages=pools,
        numa_nodes=tuple(
            replace(node, hugepages=_pools_before(node.hugepages, nodes.get(node.id, {})))
            for node in before.numa_nodes
        ),
    )


def _pools_before(before: Pools, now: Pools) -> dict[int, HugepagePool]:
    """As many as there are now; what others had is still theirs, the rest the engine's."""
    pools = {}
    for size, pool in before.items():
        total = now[size].total if size in now else pool.total
        pools[size] = replace(pool, total=total, free=max(0, total - pool.total + pool.free))
    return pools
