"""One sequence's share of the cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from kvtier_engine.kv.hints import Marks
from kvtier_engine.kv.keys import KeyChain
from kvtier_engine.kv.meeting import Gap
from kvtier_engine.kv.prefetch import Lookup


@dataclass(slots=True, eq=False)
class SequencePages:
    """Only the manager and its loader change it."""

    chain: KeyChain
    pages: list[int] = field(default_factory=list)  # page table: L1 pages from position 0
    chain_pages: int = 0  # pages of its tokens when it was admitted, the last one begun or full
    published: int = 0  # leading pages that others can find in L1
    lookup: Lookup | None = None  # while it waits, or has a gap
    lookups: int = 0  # made during this wait
    gap: Gap | None = None  # while it runs and pages of it are still to come from disk
    found: list[int] = field(default_factory=lambda: [0, 0, 0])  # tokens, by tier, since admitted
    blocked_on: bytes | None = None  # the page that somebody else was computing
    no_room_at: int | None = None  # pages that L1 had when that was too few
    marks: Marks | None = None  # its hints

    @property
    def stores(self) -> bool:
        return self.marks is None or not self.marks.hints.no_store


class Refusal(Enum):
    """Why a sequence cannot be admitted yet."""

    NO_PAGES = "L1 has too few pages"
    COMPUTING = "another sequence is computing a page that it needs"
    LOADING = "pages found in L1 have left it, and are read from disk instead"


@dataclass(frozen=True, slots=True)
class Admission:
    computed: int  # leading tokens whose KV is there


@dataclass(frozen=True, slots=True)
class Restore:
    """An L2 slot to copy to an L1 page before the step's chunks are computed."""

    page: int
    slot: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where a page of a chain is: in L1, in L2, on its way from L3, or (lost) in none of them any
    more, though pages after it are."""

    page: int | None = None
    slot: int | None = None
    is_coming: bool = False

    @property
    def is_there(self) -> bool:
        return self.page is not None or self.slot is not None
