"""What a plan consists of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

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
from kvtier_ops.host import FileSystem, Host
from kvtier_ops.model.facts import ModelFacts
from kvtier_ops.plan.placement import Placement
from kvtier_ops.plan.ranks import Ranks
from kvtier_ops.profile.schema import Profile


@dataclass(frozen=True)
class Warning_:
    """Something that works but that the operator may not have meant. Ids never change."""

    id: str
    what: str
    hint: str
    field: str = ""  # of the profile, that it is about
    forbids_launch: bool = False  # it can be planned for; the engine would not start as it is


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
class HugepageNeed:
    """Hugepages of one size that L2 takes on one NUMA node; `node` None: wherever they are."""

    node: int | None
    page_bytes: int
    pages: int
    reserved: int  # there are, in use or not
    free: int
    among: tuple[int, ...] = ()  # nodes that it may lie on, where it is on no certain one
    granted: int | None = None  # by the cgroup, over all nodes; None: it sets no limit

    @property
    def is_forbidden(self) -> bool:
        """However many are reserved, the cgroup does not let this process have them."""
        return self.granted is not None and self.granted < self.pages

    @property
    def missing(self) -> int:
        return max(0, self.pages - self.free)

    @property
    def to_reserve(self) -> int:
        """What nr_hugepages must be, so that enough of them are free."""
        return self.reserved + self.missing


@dataclass(frozen=True)
class DiskPlan:
    """One directory of L3."""

    path: Path
    capacity_bytes: int
    free_bytes: int  # that the tier may use, its present files included, reserve left out
    on: FileSystem


class Source(StrEnum):
    """How much a figure is worth."""

    MEASURED = "measured"
    DATASHEET = "datasheet"
    ASSUMED = "assumed"


@dataclass(frozen=True)
class Figure:
    """A rate or a time that was not computed from sizes alone."""

    value: float
    source: Source
    reason: str


@dataclass(frozen=True)
class Rates:
    """How fast things go. `prefill_tokens_per_s` is at an empty context; see `prefill_at`."""

    prefill_tokens_per_s: Figure
    context_slowdown: float  # per token of context: prefill at n tokens is P / (1 + this x n)
    l2_bytes_per_s: Figure
    disk_read_bytes_per_s: Figure | None  # of all directories together; None: no L3
    disk_write_bytes_per_s: Figure | None
    arena_bytes_per_s: Figure  # the first touch of L2's memory

    def prefill_at(self, context_tokens: int) -> float:
        """Tokens per second of a prompt of so many tokens, from its first to its last."""
        return self.prefill_tokens_per_s.value / (1 + self.context_slowdown * context_tokens / 2)


@dataclass(frozen=True)
class BreakEven:
    """What a disk must read to be quicker than computing, for a prompt of so many tokens."""

    context_tokens: int
    bytes_per_s: float
    pays: bool


@dataclass(frozen=True)
class Wear:
    """What L3 is written in a day, against what its drives are rated for."""

    bytes_per_day: int
    reason: str
    drive_bytes: int  # of the drives behind the directories, or the capacity of L3 if unknown
    rated_per_day: float  # drive writes per day
    is_bound: bool = False  # no load was told: it is what the device could compute at most

    @property
    def drive_writes_per_day(self) -> float:
        return self.bytes_per_day / self.drive_bytes


@dataclass(frozen=True)
class Conversations:
    """How many sequences of so many tokens each tier holds."""

    tokens: int
    l1: int
    l2: int
    l3: int


@dataclass(frozen=True)
class PageAdvice:
    """`tiers.page_tokens` for a kind of use."""

    use: str
    page_tokens: int
    reason: str


@dataclass(frozen=True)
class Answers:
    """What follows from the sizes: none of it is told to the engine."""

    rates: Rates
    conversations: tuple[Conversations, ...]
    page_advice: tuple[PageAdvice, ...]
    arena_s: Figure
    break_even: tuple[BreakEven, ...]
    wear: Wear | None


@dataclass(frozen=True)
class Plan:
    """Every number that the engine is given, and why."""

    profile: Profile
    host: Host
    model: ModelFacts
    served_name: str
    device: str
    ranks: Ranks
    threads: int
    threads_reason: str
    max_context_tokens: int
    context_reason: str
    max_prompt_tokens: int
    token_bytes: int  # KV of one token on this node: what L2 and L3 hold
    device_token_bytes: int  # the same in L1, with the copies that ranks keep
    l1: TierPlan
    l2: TierPlan
    l3: TierPlan
    numa_nodes: tuple[int, ...]  # of each rank's part of L2; none: any
    placements: tuple[Placement, ...]  # by rank; none: anywhere
    arena_parts: int  # of each slot of L2
    hugepages: tuple[HugepageNeed, ...]
    disks: tuple[DiskPlan, ...]
    memories: tuple[MemoryPlan, ...]
    answers: Answers
    warnings: tuple[Warning_, ...]

    @property
    def tiers(self) -> tuple[TierPlan, TierPlan, TierPlan]:
        return self.l1, self.l2, self.l3

    @property
    def page_bytes(self) -> int:
        return self.token_bytes * self.profile.tiers.page_tokens

    @property
    def left_bytes(self) -> int:
        """Of host memory, that neither kvtier takes nor is left to the system on purpose."""
        return self.memories[-1].left_bytes

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
                max_prompt_tokens=self._max_prompt_tokens(),
                max_running=profile.engine.max_running,
                max_queued=profile.engine.max_queued,
                max_step_tokens=profile.engine.max_step_tokens,
            ),
            device="cuda" if self.device == "cuda" else "cpu",
            attention=profile.engine.attention,
            parallel=ParallelConfig(
                tensor_parallel=profile.engine.tensor_parallel,
                threads_per_rank=self.threads,
                placements=tuple(placement.config() for placement in self.placements),
            ),
            server=self._server(),
            log_level=profile.server.log_level,
            log_format=profile.server.log_format,
            run_dir=run_dir,
            state_dir=state_dir,
        )

    def _max_prompt_tokens(self) -> int | None:
        """None where the profile sets no limit of its own."""
        asked = self.profile.engine.max_prompt_tokens
        return asked if isinstance(asked, int) else None

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
