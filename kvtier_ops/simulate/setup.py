"""What is simulated: tiers, in tokens, and how fast everything is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kvtier_engine.config import L3Admission, L3Eviction, L3Write, MemoryEviction


@dataclass(frozen=True)
class MemorySetup:
    """L1 or L2; no tokens: there is none."""

    tokens: int = 0
    eviction: MemoryEviction = "lru"


@dataclass(frozen=True)
class DiskSetup:
    """L3; no tokens: there is none."""

    tokens: int = 0
    eviction: L3Eviction = "lru"
    write: L3Write = "on_evict"
    admission: L3Admission = "auto"
    bytes_per_day: int | None = None
    drive_writes_per_day: float = 1.0  # what the drives are rated for
    drive_bytes: int = 0  # of the drives behind it; 0: as large as L3
    sightings: int = 1
    sightings_tokens: int = 0  # chains of so many are written at once; 0: none are


@dataclass(frozen=True)
class ModelWork:
    """What decides how prefill slows down with the context. Zeros: it does not."""

    active_parameters: int = 0
    attention_width: int = 0  # query heads x head_dim x layers

    @property
    def slowdown(self) -> float:
        """a / f of one token of context: attention's work over that of the weights."""
        if not self.active_parameters:
            return 0.0
        return 4.0 * self.attention_width / (2.0 * self.active_parameters)


@dataclass(frozen=True)
class Setup:
    """A cache and its model."""

    token_bytes: int
    page_tokens: int
    l1: MemorySetup = field(default_factory=MemorySetup)
    l2: MemorySetup = field(default_factory=MemorySetup)
    l3: DiskSetup = field(default_factory=DiskSetup)
    work: ModelWork = field(default_factory=ModelWork)
    compute_while_loading: bool = True
    prefix_reuse: bool = True

    def without_reuse(self) -> Setup:
        """The same with tiers that hold nothing."""
        nothing = MemorySetup()
        return replace(self, l1=nothing, l2=nothing, l3=DiskSetup())
