"""What a launch serves: a profile as it was read, its plan, and what the engine is told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvtier_engine.config import EngineConfig
from kvtier_ops.errors import ChecksFailed, KvtierError, Refused
from kvtier_ops.host import Host, HugepagePool, probe
from kvtier_ops.instance import state_dir_of
from kvtier_ops.launch.host_tuning import Tuning
from kvtier_ops.launch.preflight import Preflight, preflight
from kvtier_ops.launch.record import refuse_collisions
from kvtier_ops.plan import Plan
from kvtier_ops.prepare import Instead, Prepared, prepare
from kvtier_ops.profile.load import ProfileFile, load_profile
from kvtier_ops.profile.schema import Profile

Pools = Mapping[int, HugepagePool]
# Checks of what the running engine itself holds: its port, its directories, its memory.
_OURS = ("KVT-D202", "KVT-D207", "KVT-D222", "KVT-D223", "KVT-D303", "KVT-D501")


@dataclass(frozen=True)
class Served:
    """`port`: where the engine came to listen, so that a restart keeps the address; 0: not yet."""

    file: ProfileFile
    prepared: Prepared
    overrides: tuple[str, ...] = ()
    port: int = 0

    @property
    def plan(self) -> Plan:
        return self.prepared.plan

    @property
    def profile(self) -> Profile:
        return self.file.profile

    def config(self, run_dir: Path, arena_fd: int | None = None) -> EngineConfig:
        config = self.plan.engine_config(run_dir, arena_fd, state_dir_of(self.file.path))
        if not self.port:
            return config
        server = config.server.model_copy(update={"port": self.port})
        return config.model_copy(update={"server": server})


def read_again(served: Served, name: str, forced: tuple[str, ...], tuning: Tuning) -> Served:
    """The profile as it is now, planned and checked; nothing is changed. Raises KvtierError.

    It is planned for the memory that there was when the launch began: what is missing since is
    with the running engine, which gives it back.
    """
    file = load_profile(served.file.path, served.overrides)
    try:
        _refuse_other_nodes(served, file)
        host = _host_without_us(served.prepared.host, file)
        prepared = prepare(file, Instead(host=host))
        refuse_collisions(prepared.plan, name)
        found = preflight(file, prepared, forced, tuning.mends(prepared.plan))
        _refuse(found, served, file, prepared)
    except KvtierError as error:
        error.locate(file.place_of)
        raise
    same_port = file.profile.server.port == served.profile.server.port
    return Served(file, prepared, served.overrides, served.port if same_port else 0)


def _refuse_other_nodes(served: Served, file: ProfileFile) -> None:
    """By what the profile says: of the CPUs this process sees those alone that it was bound to."""
    for name in ("cpu_nodes", "memory_nodes"):
        if getattr(served.profile.host, name) != getattr(file.profile.host, name):
            raise Refused(
                "a running launcher cannot change its NUMA nodes",
                "`kvtier stop`, then `kvtier launch`",
                field=f"host.{name}",
            )


def _host_without_us(before: Host, file: ProfileFile) -> Host:
    """Disks as they are now; memory, hugepages and GPUs as before our engine took its part, less
    what has become hugepages since."""
    found = probe(directories=file.profile.tiers.l3.directories)
    nodes = {node.id: node.hugepages for node in found.numa_nodes}
    pools = _pools_without_us(before.hugepages, found.hugepages)
    grown = sum(size * (pool.total - before.hugepages[size].total) for size, pool in pools.items())
    return replace(
        before,
        file_systems=found.file_systems,
        directories=found.directories,
        name=found.name,
        memory_available_bytes=max(0, before.memory_available_bytes - grown),
        hugepages=pools,
        numa_nodes=tuple(
            replace(node, hugepages=_pools_without_us(node.hugepages, nodes.get(node.id, {})))
            for node in before.numa_nodes
        ),
    )


def _pools_without_us(before: Pools, now: Pools) -> dict[int, HugepagePool]:
    """As many as there are now; those that others had are still theirs, the rest is ours."""
    pools = {}
    for size, pool in before.items():
        total = now[size].total if size in now else pool.total
        pools[size] = replace(pool, total=total, free=max(0, total - pool.total + pool.free))
    return pools


def _refuse(found: Preflight, served: Served, file: ProfileFile, prepared: Prepared) -> None:
    """Raises ChecksFailed, but not for what this instance itself holds."""
    held = {os.path.realpath(disk.path) for disk in served.plan.disks}
    new = {os.path.realpath(disk.path) for disk in prepared.plan.disks} - held
    same_port = file.profile.server.port == served.profile.server.port
    failed = []
    for finding in found.failed:
        is_ours = finding.id in _OURS
        if finding.id == "KVT-D303":
            is_ours = not any(path in finding.what for path in new)
        elif finding.id == "KVT-D501":
            is_ours = same_port
        if not is_ours:
            failed.append(finding.problem())
    if failed:
        raise ChecksFailed(failed)


@dataclass(frozen=True)
class Change:
    """What the engine must be told of a new profile. `sizes`: tier -> bytes, where telling the
    running engine is enough; None: it has to be started again, for `fields`."""

    fields: tuple[str, ...]
    sizes: dict[str, int] | None

    @property
    def is_none(self) -> bool:
        return not self.fields


def change_between(old: Served, new: Served) -> Change:
    """By what the engine is told, not by what the profile says: `50%` may come to the same."""
    run_dir = Path("/")
    before, after = (
        dict(_flat(each.config(run_dir).model_dump(mode="json"))) for each in (old, new)
    )
    fields = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    environments = [each.profile.engine.environment for each in (old, new)]
    if environments[0] != environments[1]:
        fields.append("environment")
    if old.plan.profile.tiers.l2.hugepages != new.plan.profile.tiers.l2.hugepages:
        fields.append("hugepages")
    sizes: dict[str, int] = {}
    for name in fields:
        tier = _resized_tier(name)
        if tier is None or not before.get(name) or not after.get(name):
            return Change(tuple(fields), None)
        sizes[tier] = {"l1": new.plan.l1, "l2": new.plan.l2, "l3": new.plan.l3}[tier].bytes
    return Change(tuple(fields), sizes)


def _resized_tier(name: str) -> str | None:
    """`cache.l2.pages` -> `l2`; None for what cannot change while the engine runs."""
    if name in ("cache.l1.pages", "cache.l2.pages"):
        return name.split(".")[1]
    is_l3 = name.startswith("cache.l3.directories.") and name.endswith(".capacity_bytes")
    return "l3" if is_l3 else None


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield name, value
        return
    for key, item in items:
        yield from _flat(item, f"{name}.{key}" if name else str(key))
