"""The profile: everything an operator may write, with default, bounds, meaning and example.

This is the one home of those facts: docs/profile.md, the JSON Schema, the error messages
and the plan read them from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from kvtier_engine.config import (
    Dtype,
    Hugepages,
    L3Admission,
    L3Eviction,
    L3Write,
    LogLevel,
    MemoryEviction,
    SecretSource,
)
from kvtier_ops.fields import (
    AmountField,
    CountField,
    LimitField,
    ModelField,
    NameField,
    NumaField,
    PathField,
    SecretFileField,
    SizeField,
    TenantField,
    VariableField,
)
from kvtier_ops.units import AUTO, UNITS, Auto, Size

VERSION = 1


class Section(BaseModel):
    """Base of every section: unknown fields are refused, values cannot change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


def _version(value: object) -> object:
    if value not in (str(VERSION), VERSION):
        raise ValueError(f"this kvtier reads profiles of version {VERSION}")
    return VERSION


class Model(Section):
    """Which model is served, and under which name."""

    path: ModelField = Field(
        default="smollm2-135m",
        description="A Hugging Face folder, a GGUF file, or the name of a registered model "
        "(see `kvtier model list`). Relative paths start at the profile's folder.",
        examples=["~/models/SmolLM2-135M-Instruct"],
    )
    served_name: NameField = Field(
        default="auto",
        description="The model's name in the API; `auto`: the registered name, or the name of "
        "the folder or file.",
        examples=["smollm2"],
    )
    dtype: Dtype = Field(
        default="bfloat16",
        description="Type of weights, activations and KV. `float32` is exact and takes twice "
        "the memory.",
        examples=["float32"],
    )
    load_workers: int = Field(
        default=2, ge=1, le=64, description="Threads that read weights.", examples=[4]
    )


class Engine(Section):
    """How the model is computed."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where the model is computed; `auto`: the GPU if there is one.",
        examples=["cpu"],
    )
    attention: Literal["auto", "native", "torch", "flashinfer"] = Field(
        default="auto",
        description="The attention kernel; `auto`: the quickest that this device has.",
        examples=["torch"],
    )
    tensor_parallel: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Ranks that share the model; must divide its kv heads. On GPUs one rank "
        "is one GPU.",
        examples=[2],
    )
    threads: CountField = Field(
        default=AUTO,
        description="CPU threads of each rank; `auto`: the CPUs that kvtier may use, divided "
        "by the ranks.",
        examples=[8],
    )
    max_context_tokens: CountField = Field(
        default=AUTO,
        description="Prompt and answer together, at most; `auto`: what the model was trained "
        "for, or what L1 holds if that is less.",
        examples=[8192],
    )
    max_running: int = Field(
        default=64, ge=1, le=4096, description="Sequences computed at the same time.", examples=[16]
    )
    max_queued: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="Requests that may wait; later ones are answered 429.",
        examples=[1000],
    )
    max_step_tokens: int = Field(
        default=512,
        ge=16,
        le=65536,
        description="Tokens computed in one step. More: long prompts end sooner; less: "
        "running answers stutter less while a long prompt is computed.",
        examples=[2048],
    )


class L1(Section):
    """Pages of KV where the model is computed: GPU memory, or host memory on a CPU."""

    size: AmountField = Field(
        default=AUTO,
        description="Memory for pages over all ranks. A percentage is of the memory that "
        "kvtier may use there; `auto`: what weights and work leave on a GPU, a quarter of it "
        "on a CPU.",
        examples=["4GiB"],
    )
    eviction: MemoryEviction = Field(
        default="lru",
        description="Which page leaves first when L1 is full. `lru`: the least recently used. "
        "`arc`: the same, but pages that were used again are kept apart from those used once, "
        "with shares that adapt; for an L1 of one or two percent of what is asked for.",
        examples=["arc"],
    )


class L2(Section):
    """Pages of KV in host memory; survives a restart of the engine."""

    size: AmountField = Field(
        default=AUTO,
        description="Memory for pages. A percentage is of the memory that kvtier may use; "
        "`0GiB`: no L2; `auto`: half of what weights, work and L1 leave.",
        examples=["64GiB"],
    )
    eviction: MemoryEviction = Field(
        default="lru",
        description="Which page leaves first when L2 is full; as for L1.",
        examples=["arc"],
    )
    hugepages: Hugepages = Field(
        default="transparent",
        description="Pages that back the arena. `2MiB` and `1GiB` must have been reserved on "
        "the host; `transparent` needs nothing.",
        examples=["2MiB"],
    )
    numa: NumaField = Field(
        default=AUTO,
        description="NUMA node of each rank's part of L2, as a list; `none`: any; `auto`: that of "
        "the rank's GPU, on a host with several nodes.",
        examples=[[0, 1]],
    )


class L3(Section):
    """Pages of KV on disk; survives everything but the disk."""

    directories: tuple[PathField, ...] = Field(
        default=(),
        description="Directories that the page store owns, one for each disk; none: no L3. "
        "They are made if they do not exist.",
        examples=[["/mnt/nvme0/kvtier", "/mnt/nvme1/kvtier"]],
        max_length=64,
    )
    size: AmountField = Field(
        default=AUTO,
        description="Space on disk over all directories, shared equally. A percentage is of "
        "what is free beyond the reserve; `auto`: half of that.",
        examples=["2TB"],
    )
    reserve: SizeField = Field(
        default=Size(UNITS["GiB"]),
        description="Space to leave free on each file system.",
        examples=["50GiB"],
    )
    eviction: L3Eviction = Field(
        default="lru",
        description="Which page leaves first when L3 is full. `lru`: the least recently used. "
        "`keep_reused`: the same, but pages that were read from L3 stay far longer; for an L3 that "
        "holds a small part of what is asked for.",
        examples=["keep_reused"],
    )
    compute_while_loading: bool = Field(
        default=True,
        description="Where the disk is slow beside prefill, compute a request's first pages while "
        "its last ones are loaded, until the two meet. Off: everything that is on disk is loaded, "
        "and waited for.",
        examples=[False],
    )
    write: L3Write = Field(
        default="on_evict",
        description="When a page is written to L3. `on_evict`: when L2 is about to evict it, and "
        "at a clean stop; what only L2 holds is lost if the host fails. `write_through`: as soon "
        "as it has been computed; more is written, and nothing is lost.",
        examples=["write_through"],
    )
    admission: L3Admission = Field(
        default="auto",
        description="`auto`: every page is written, but only those that have been used before "
        "while L3 would find as many pages with those alone, as when it is too small for the "
        "others: fewer writes for the same hits. `all`: every page is written.",
        examples=["all"],
    )
    write_bytes_per_day: LimitField = Field(
        default=None,
        description="Space on disk that may be written in 24 hours, over all directories, to spare "
        "disks that wear: `none`, or what they are rated for. Pages beyond it are not written.",
        examples=["5TB"],
    )
    admit_sightings: int = Field(
        default=1,
        ge=1,
        le=15,
        description="A page is written to L3 when it is used for the n-th time; 1: at once. With "
        "2, what is asked for only once never wears the disk, and L3 learns more slowly.",
        examples=[2],
    )
    admit_tokens: int = Field(
        default=0,
        ge=0,
        le=1_000_000_000,
        description="Sequences of so many tokens and more are written at once, whatever "
        "`admit_sightings` says; 0: none are.",
        examples=[8192],
    )


class Tiers(Section):
    """The KV cache: pages in device memory (L1), host memory (L2) and on disk (L3)."""

    page_tokens: int = Field(
        default=64,
        ge=8,
        le=2048,
        multiple_of=8,
        description="Tokens in a page. Less: more of a shared prompt is found; more: fewer, "
        "larger transfers. Pages of another size are not found again on disk.",
        examples=[128],
    )
    prefix_reuse: bool = Field(
        default=True, description="Reuse the KV of earlier requests.", examples=[False]
    )
    l1: L1 = L1()
    l2: L2 = L2()
    l3: L3 = L3()


class Secret(Section):
    """Where a secret is. It is never in the profile, in the engine's files or in any output."""

    env: VariableField = Field(
        default="",
        description="Environment variable that has the key when kvtier is launched.",
        examples=["KVTIER_KEY"],
    )
    file: SecretFileField = Field(
        default="",
        description="File that has the key and nothing else.",
        examples=["~/.config/kvtier/key"],
    )

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if self.env and self.file:
            raise ValueError("give either `env` or `file`: the key is in one place")
        return self

    @property
    def source(self) -> SecretSource | None:
        """For the engine; None if there is no secret."""
        if not self.env and not self.file:
            return None
        return SecretSource(env=self.env or None, file=Path(self.file) if self.file else None)


class AdminKey(Secret):
    """The key of /admin/cache and `kvtier cache`; without one, there is no /admin."""


class ApiKey(Secret):
    """A key that clients send as `Authorization: Bearer KEY`, in `env` or `file`."""

    name: TenantField = Field(
        description="Who it is for; requests share cached pages only with those of the same name.",
        examples=["search"],
    )
    shared_cache: bool = Field(
        default=False,
        description="Share cached pages with all keys that say so, and with nobody else.",
        examples=[True],
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.source is None:
            raise ValueError("give `env` or `file`: where the key is")
        return self


def _different(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
    names = [key.name for key in keys]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two keys are named `{twice[0]}`")
    return keys


class Server(Section):
    """The HTTP server."""

    host: NameField = Field(
        default="127.0.0.1",
        description="Address to listen on; `0.0.0.0`: every address of this host.",
        examples=["0.0.0.0"],
    )
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port; 0: any free one.", examples=[8080]
    )
    api_keys: Annotated[tuple[ApiKey, ...], AfterValidator(_different)] = Field(
        default=(),
        max_length=256,
        description="Keys, one of which every request must have; none: anybody may ask. /health, "
        "/ready, /metrics and /version need none.",
        examples=[[{"name": "search", "env": "SEARCH_KEY"}]],
    )
    admin_key: AdminKey = AdminKey()
    max_body: SizeField = Field(
        default=Size(16 * UNITS["MiB"]),
        description="Larger requests are answered 413.",
        examples=["64MiB"],
    )
    drain_s: float = Field(
        default=30.0,
        ge=0,
        le=86400,
        description="Seconds that running requests have to end when kvtier is stopped.",
        examples=[120],
    )
    start_timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=86400,
        description="Seconds without any progress after which a start is given up.",
        examples=[900],
    )
    log_level: LogLevel = Field(
        default="info",
        description="What the engine logs; warnings and errors also reach the terminal.",
        examples=["debug"],
    )


class Profile(Section):
    """What an operator wants served, and with which cache."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = Field(
        description="Version of the profile's format; every profile states it.", examples=[1]
    )
    model: Model = Model()
    engine: Engine = Engine()
    tiers: Tiers = Tiers()
    server: Server = Server()


__all__ = ["VERSION", "Auto", "Profile"]
