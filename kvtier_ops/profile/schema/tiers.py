"""The section `tiers`: the KV cache."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kvtier_engine.config import Hugepages, L3Admission, L3Eviction, L3Write, MemoryEviction
from kvtier_ops.profile.fields import (
    AmountField,
    CountField,
    LimitField,
    NumaField,
    PathField,
    SizeField,
)
from kvtier_ops.profile.schema.base import Section
from kvtier_ops.units import AUTO, UNITS, Size

KvDtype = Literal["auto", "bfloat16", "float16", "float32", "float8"]


class L1(Section):
    """Pages of KV where the model is computed: GPU memory, or host memory on a CPU."""

    size: AmountField = Field(
        default=AUTO,
        description="Memory for pages over all ranks. A percentage is of the memory that "
        "kvtier may use there; `auto`: what weights and work leave on a GPU, a quarter of it "
        "on a CPU.",
        examples=["4GiB"],
    )
    max_tokens: CountField = Field(
        default=AUTO,
        description="Tokens that L1 holds, at most, whatever `size` allows; `auto`: no limit.",
        examples=[100000],
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
    drive_writes_per_day: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="What the drives are rated for: how often a day they may be written whole, "
        "over their life (DWPD, on the datasheet). The plan compares it with what is written.",
        examples=[3],
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
    kv_dtype: KvDtype = Field(
        default="auto",
        description="Type of the numbers in the cache; `auto`: the model's. The bundled engine "
        "keeps KV as the model computes it: another type can be planned for, not launched.",
        examples=["float8"],
    )
    prefix_reuse: bool = Field(
        default=True, description="Reuse the KV of earlier requests.", examples=[False]
    )
    l1: L1 = L1()
    l2: L2 = L2()
    l3: L3 = L3()
