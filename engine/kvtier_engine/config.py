"""EngineConfig: everything the engine is told, resolved to bytes, pages and paths.

`kvtier plan` writes it, the engine reads it from one JSON file. There are no other
settings: no flags, and no environment variables but those that hold a secret which the file
names. Sizes are final; the engine derives none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Device = Literal["cpu", "cuda"]
Dtype = Literal["bfloat16", "float16", "float32"]
Hugepages = Literal["none", "transparent", "2MiB", "1GiB"]
MemoryEviction = Literal["lru", "arc"]
L3Eviction = Literal["lru", "keep_reused"]
L3Write = Literal["on_evict", "write_through"]
L3Admission = Literal["auto", "all"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
TENANT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
RATES_FILE = "rates.json"  # in `state_dir`: what a run has measured, for the next plan
SECRET_CHARS_MIN = 8  # to refuse an empty file or a slip, not to judge a key's strength
Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base of every section: unknown fields are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelConfig(Section):
    path: Path = Field(description="Hugging Face folder, or a GGUF file.")
    served_name: str = Field(min_length=1, description="The model's name in the API.")
    dtype: Dtype = Field(default="bfloat16", description="Type of weights, activations and KV.")
    load_workers: Positive = Field(default=2, description="Threads that read weights.")


class RankPlacement(Section):
    """Where one rank runs and takes its memory from."""

    cpus: tuple[NotNegative, ...] = Field(default=(), description="None: any.")
    memory_nodes: tuple[NotNegative, ...] = Field(
        default=(), description="NUMA nodes; none: as this process's parent has it."
    )
    interleave: bool = Field(default=False, description="The nodes in turn, not the first first.")


class ParallelConfig(Section):
    tensor_parallel: Positive = Field(default=1, description="Ranks that share the model.")
    threads_per_rank: Positive = Field(default=1, description="CPU threads of each rank.")
    placements: tuple[RankPlacement, ...] = Field(default=(), description="By rank; or none.")


class KvGeometry(Section):
    """Shape of the KV cache over all ranks. `kvtier plan` reads it from the model's
    config; the engine refuses to start if the model it loads has another."""

    layers: Positive
    kv_heads: Positive
    head_dim: Positive
    item_bytes: Positive = Field(default=2, description="Bytes of one number.")

    @property
    def token_bytes(self) -> int:
        """Bytes of K and V of one token, all layers and heads."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.item_bytes

    def page_bytes(self, page_tokens: int) -> int:
        """Bytes of a page: the same in every tier and at every degree of parallelism."""
        return self.token_bytes * page_tokens


class L1Config(Section):
    pages: Positive = Field(description="Pages of KV in device memory, over all ranks.")
    eviction: MemoryEviction = Field(default="lru", description="Which page leaves first.")


class L2Config(Section):
    pages: NotNegative = Field(default=0, description="Slots of the host-memory arena; 0: no L2.")
    eviction: MemoryEviction = Field(default="lru", description="Which page leaves first.")
    hugepages: Hugepages = Field(default="transparent", description="Pages that back the arena.")
    arena_fd: NotNegative | None = Field(
        default=None,
        description="memfd that holds the arena, inherited from the launcher; none: make one.",
    )
    numa_nodes: tuple[NotNegative, ...] = Field(
        default=(), description="Node that each rank's part is bound to; none: any."
    )


class L3Directory(Section):
    path: Path = Field(description="Directory that the page store owns.")
    capacity_bytes: Positive = Field(description="Bytes on disk that it may use, headers included.")


class L3Config(Section):
    directories: tuple[L3Directory, ...] = Field(default=(), description="None: no L3.")
    reserve_bytes: NotNegative = Field(
        default=1 << 30, description="Free bytes to leave on each file system."
    )
    eviction: L3Eviction = Field(default="lru", description="Which page leaves first.")
    compute_while_loading: bool = Field(
        default=True,
        description="Compute a request from the front while its pages come from disk.",
    )
    write: L3Write = Field(
        default="on_evict", description="A page is written when L2 evicts it, or when it is new."
    )
    admission: L3Admission = Field(
        default="auto", description="Whether a disk that is too small takes only what was used."
    )
    admit_sightings: int = Field(
        default=1, ge=1, le=15, description="A page is written when it is seen for the n-th time."
    )
    admit_chain_pages: NotNegative = Field(
        default=0, description="Chains of so many pages are written at once; 0: none are."
    )
    write_bytes_per_day: Positive | None = Field(
        default=None, description="Written in 24 hours at most; none: no limit."
    )


class CacheConfig(Section):
    geometry: KvGeometry
    page_tokens: Positive = Field(default=64, description="Tokens in a page.")
    l1: L1Config
    l2: L2Config = L2Config()
    l3: L3Config = L3Config()
    prefix_reuse: bool = Field(default=True, description="Reuse KV of earlier requests.")

    @property
    def page_bytes(self) -> int:
        return self.geometry.page_bytes(self.page_tokens)


class SchedulerConfig(Section):
    max_context_tokens: Positive = Field(description="Prompt and answer together, at most.")
    max_prompt_tokens: Positive | None = Field(
        default=None, description="The prompt alone, at most; none: what the context admits."
    )
    max_running: Positive = Field(default=64, description="Sequences computed at the same time.")
    max_queued: Positive = Field(default=256, description="Requests that may wait; then 429.")
    max_step_tokens: Positive = Field(
        default=512, description="Tokens computed in one step: long prompts go in chunks of this."
    )


class SecretSource(Section):
    """Where a secret is: the secret itself is in no file of ours, and in no output."""

    env: str | None = Field(default=None, min_length=1, description="Environment variable.")
    file: Path | None = Field(default=None, description="File with the secret and nothing else.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret has either `env` or `file`")
        return self

    def read(self) -> str:
        """The secret, without white space around it. ValueError, a sentence, if there is none."""
        if self.env is not None:
            if self.env not in os.environ:
                raise ValueError(f"the environment has no `{self.env}`")
            place, raw = f"the environment's `{self.env}`", os.environb[os.fsencode(self.env)]
        else:
            place = f"`{self.file}`"
            try:
                raw = Path(str(self.file)).read_bytes()
            except OSError as error:
                raise ValueError(f"cannot read {place}: {error.strerror}") from None
        secret = raw.strip()
        if not secret.isascii() or not secret.decode().isprintable() or b" " in secret:
            raise ValueError(f"{place} must be one word of printable ASCII characters")
        if len(secret) < SECRET_CHARS_MIN:
            raise ValueError(f"{place} has fewer than {SECRET_CHARS_MIN} characters")
        return secret.decode()


class ApiKeyConfig(Section):
    name: str = Field(pattern=TENANT_PATTERN, description="Part of every page key of its requests.")
    secret: SecretSource
    shared_cache: bool = Field(default=False, description="Its pages are everybody's.")


class ServerConfig(Section):
    host: str = Field(default="127.0.0.1")
    port: int = Field(default=8000, ge=0, le=65535, description="0: any free port.")
    api_keys: tuple[ApiKeyConfig, ...] = Field(default=(), description="None: no authentication.")
    admin_key: SecretSource | None = Field(default=None, description="None: no /admin.")
    max_body_bytes: Positive = Field(default=16 << 20, description="Larger requests get a 413.")
    drain_s: float = Field(
        default=30.0, ge=0, description="Time for running requests to end after SIGTERM."
    )
    request_trace: Path | None = Field(
        default=None, description="File that gets a line for each request; none: none is kept."
    )


class EngineConfig(Section):
    """The engine's only input. Written by `kvtier launch`, read once at start."""

    model: ModelConfig
    cache: CacheConfig
    scheduler: SchedulerConfig
    device: Device = "cpu"
    attention: Literal["auto", "native", "torch", "flashinfer"] = "auto"
    parallel: ParallelConfig = ParallelConfig()
    server: ServerConfig = ServerConfig()
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
    run_dir: Path = Field(
        description="Private folder (0700) of this run: sockets, the bound address, logs."
    )
    state_dir: Path | None = Field(
        default=None, description="Private folder that outlives the run; none: nothing is kept."
    )

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        cache, scheduler = self.cache, self.scheduler
        l1_tokens = cache.l1.pages * cache.page_tokens
        if l1_tokens < scheduler.max_context_tokens:
            raise ValueError(
                f"L1 holds {l1_tokens} tokens, fewer than one request may have "
                f"(max_context_tokens={scheduler.max_context_tokens})"
            )
        if cache.l3.directories and not cache.l2.pages:
            raise ValueError("L3 needs an L2: pages reach the disk through host memory")
        if scheduler.max_step_tokens < scheduler.max_running:
            raise ValueError(
                f"max_step_tokens={scheduler.max_step_tokens} is below "
                f"max_running={scheduler.max_running}: each running request needs a token a step"
            )
        nodes, ranks = cache.l2.numa_nodes, self.parallel.tensor_parallel
        if nodes and len(nodes) != ranks:
            raise ValueError(
                f"cache.l2.numa_nodes has {len(nodes)} nodes for {ranks} ranks: give each rank "
                "one, or none at all"
            )
        if len(self.parallel.placements) not in (0, ranks):
            raise ValueError(
                f"parallel.placements has {len(self.parallel.placements)} entries for {ranks} "
                "ranks: give each rank one, or none at all"
            )
        if cache.geometry.kv_heads % self.parallel.tensor_parallel:
            raise ValueError(
                f"tensor_parallel={self.parallel.tensor_parallel} does not divide the model's "
                f"{cache.geometry.kv_heads} kv heads"
            )
        return self


def load_config(path: Path) -> EngineConfig:
    """Reads the JSON that `kvtier launch` wrote. Raises OSError or pydantic.ValidationError."""
    return EngineConfig.model_validate_json(path.read_bytes())
