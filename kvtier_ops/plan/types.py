"""What a plan consists of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kvtier_engine.config import (
    ApiKeyConfig,
    CacheConfig,
    EngineConfig,
    KvGeometry,
    L1Config,
    L2Config,
    L3Config,
    L3Directory,
    ModelConfig,
    ParallelConfig,
    SchedulerConfig,
    ServerConfig,
)
from kvtier_ops.model.facts import ModelFacts
from kvtier_ops.profile.schema import Profile


@dataclass(frozen=True)
class Warning_:
    """Something that works but that the operator may not have meant. Ids never change."""

    id: str
    what: str
    hint: str


@dataclass(frozen=True)
class TierPlan:
    """One tier; `bytes` is what it takes, all overhead included."""

    name: str
    where: str
    bytes: int
    pages: int
    tokens: int
    reason: str


@dataclass(frozen=True)
class MemoryItem:
    """One share of the memory of the host, or of the GPUs."""

    name: str
    bytes: int
    reason: str


@dataclass(frozen=True)
class MemoryPlan:
    """Where one memory goes. `usable_bytes` is the sum of the items and what is left."""

    place: str  # `host memory`, `GPU memory`
    usable_bytes: int
    items: tuple[MemoryItem, ...]

    @property
    def left_bytes(self) -> int:
        return self.usable_bytes - sum(item.bytes for item in self.items)


@dataclass(frozen=True)
class DiskPlan:
    """One directory of L3."""

    path: Path
    capacity_bytes: int
    free_bytes: int  # that the tier may use, its present files included, reserve left out
    file_system: str


@dataclass(frozen=True)
class Plan:
    """Every number that the engine is given, and why."""

    profile: Profile
    model: ModelFacts
    served_name: str
    device: str
    threads: int
    threads_reason: str
    max_context_tokens: int
    context_reason: str
    l1: TierPlan
    l2: TierPlan
    l3: TierPlan
    numa_nodes: tuple[int, ...]  # of each rank's part of L2; none: any
    disks: tuple[DiskPlan, ...]
    memories: tuple[MemoryPlan, ...]
    warnings: tuple[Warning_, ...]

    @property
    def tiers(self) -> tuple[TierPlan, TierPlan, TierPlan]:
        return self.l1, self.l2, self.l3

    @property
    def page_bytes(self) -> int:
        return self.model.kv.token_bytes * self.profile.tiers.page_tokens

    def engine_config(
        self, run_dir: Path, arena_fd: int | None = None, state_dir: Path | None = None
    ) -> EngineConfig:
        """What the engine reads. `arena_fd`: the launcher's memfd for L2, if it made one;
        `state_dir`: what is kept for the next run lies there."""
        profile = self.profile
        return EngineConfig(
            model=ModelConfig(
                path=self.model.path,
                served_name=self.served_name,
                dtype=profile.model.dtype,
                load_workers=profile.model.load_workers,
            ),
            cache=self._cache(arena_fd),
            scheduler=SchedulerConfig(
                max_context_tokens=self.max_context_tokens,
                max_running=profile.engine.max_running,
                max_queued=profile.engine.max_queued,
                max_step_tokens=profile.engine.max_step_tokens,
            ),
            device="cuda" if self.device == "cuda" else "cpu",
            attention=profile.engine.attention,
            parallel=ParallelConfig(
                tensor_parallel=profile.engine.tensor_parallel, threads_per_rank=self.threads
            ),
            server=self._server(),
            log_level=profile.server.log_level,
            run_dir=run_dir,
            state_dir=state_dir,
        )

    def _geometry(self) -> KvGeometry:
        geometry = self.model.kv.geometry
        assert geometry is not None, "launch refuses a model that the engine cannot hold"
        return geometry

    def _server(self) -> ServerConfig:
        server = self.profile.server
        sources = [(key, key.source) for key in server.api_keys]
        return ServerConfig(
            host=server.host,
            port=server.port,
            api_keys=tuple(
                ApiKeyConfig(name=key.name, secret=source, shared_cache=key.shared_cache)
                for key, source in sources
                if source is not None
            ),
            admin_key=server.admin_key.source,
            max_body_bytes=server.max_body.bytes,
            drain_s=server.drain_s,
            request_trace=Path(server.request_trace) if server.request_trace else None,
        )

    def _cache(self, arena_fd: int | None) -> CacheConfig:
        tiers = self.profile.tiers
        limit = tiers.l3.write_bytes_per_day
        disks = tuple(
            L3Directory(path=disk.path, capacity_bytes=disk.capacity_bytes) for disk in self.disks
        )
        return CacheConfig(
            geometry=self._geometry(),
            page_tokens=tiers.page_tokens,
            l1=L1Config(pages=self.l1.pages, eviction=tiers.l1.eviction),
            l2=L2Config(
                pages=self.l2.pages,
                eviction=tiers.l2.eviction,
                hugepages=tiers.l2.hugepages,
                arena_fd=arena_fd,
                numa_nodes=self.numa_nodes,
            ),
            l3=L3Config(
                directories=disks,
                reserve_bytes=tiers.l3.reserve.bytes,
                eviction=tiers.l3.eviction,
                compute_while_loading=tiers.l3.compute_while_loading,
                write=tiers.l3.write,
                admission=tiers.l3.admission,
                write_bytes_per_day=limit.bytes if limit is not None else None,
                admit_sightings=tiers.l3.admit_sightings,
                admit_chain_pages=-(-tiers.l3.admit_tokens // tiers.page_tokens),
            ),
            prefix_reuse=tiers.prefix_reuse,
        )

    def as_json(self) -> dict[str, Any]:
        """The plan as data, for `--json`: exact bytes, names as in the profile and the table."""
        model = self.model
        return {
            "model": {
                "name": self.served_name,
                "path": str(model.path),
                "architecture": model.architecture,
                "dtype": self.profile.model.dtype,
                "parameters": model.parameters,
                "weight_bytes": model.weight_bytes,
                "kv_token_bytes": model.kv.token_bytes,
            },
            "device": self.device,
            "tensor_parallel": self.profile.engine.tensor_parallel,
            "threads": {"value": self.threads, "reason": self.threads_reason},
            "max_context_tokens": {"value": self.max_context_tokens, "reason": self.context_reason},
            "page": {"tokens": self.profile.tiers.page_tokens, "bytes": self.page_bytes},
            "numa_nodes": list(self.numa_nodes),
            "tiers": {tier.name: asdict(tier) for tier in self.tiers},
            "disks": [{**asdict(disk), "path": str(disk.path)} for disk in self.disks],
            "memory": [
                {**asdict(memory), "left_bytes": memory.left_bytes} for memory in self.memories
            ],
            "warnings": [asdict(warning) for warning in self.warnings],
        }
