"""L3 at a planned size: which blocks it has, which it takes, and what that costs the disk."""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict, deque
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from kvtier_engine.kv.admit import DAY_S, Admission, Uses, WriteBudget
from kvtier_ops.simulate.setup import DiskSetup

READ_BONUS = 4  # stores full of pages that one is younger for having been read (csrc: eviction.cc)
Block = int


class Index(ABC):
    """What is on disk; `pages` of it at most."""

    def __init__(self, pages: int) -> None:
        self.pages = pages

    held: Container[Block]

    @abstractmethod
    def add(self, block: Block) -> None:
        """A block that is not there has been written."""

    @abstractmethod
    def touch(self, chain: Sequence[Block], read: frozenset[Block] | set[Block]) -> None:
        """A chain, head first, is used; some of its blocks were read."""


class LruIndex(Index):
    def __init__(self, pages: int) -> None:
        super().__init__(pages)
        self.held = self._order = OrderedDict[Block, None]()

    def add(self, block: Block) -> None:
        if len(self._order) == self.pages:
            self._order.popitem(last=False)
        self._order[block] = None

    def touch(self, chain: Sequence[Block], read: frozenset[Block] | set[Block]) -> None:
        order = self._order
        for block in reversed(chain):
            if block in order:
                order.move_to_end(block)


class KeepReusedIndex(Index):
    """As the page store: the block of the lowest rank goes first, of those that are no parent of
    another one on disk; a use gives a new rank, and one that was read a far higher one."""

    def __init__(self, pages: int, parents: Sequence[Block]) -> None:
        super().__init__(pages)
        self._parents = parents
        self.held = self._rank = dict[Block, int]()
        self._children: Counter[Block] = Counter()  # on disk
        self._was_read: set[Block] = set()
        self._uses = 0
        self._lowest: list[tuple[int, Block]] = []  # old ranks as well

    def add(self, block: Block) -> None:
        if len(self._rank) == self.pages:
            self._evict()
        self._children[self._parents[block]] += 1
        self._set_rank(block)

    def touch(self, chain: Sequence[Block], read: frozenset[Block] | set[Block]) -> None:
        self._was_read.update(read)
        for block in reversed(chain):
            if block in self._rank:
                self._set_rank(block)

    def _set_rank(self, block: Block) -> None:
        self._uses += 1
        bonus = READ_BONUS * self.pages if block in self._was_read else 0
        self._rank[block] = self._uses + bonus
        heapq.heappush(self._lowest, (self._rank[block], block))
        if len(self._lowest) > 4 * len(self._rank) + 1024:  # most are of earlier uses
            self._lowest = [(rank, each) for each, rank in self._rank.items()]
            heapq.heapify(self._lowest)

    def _evict(self) -> None:
        while True:
            rank, block = heapq.heappop(self._lowest)
            if self._rank.get(block) == rank and not self._children[block]:
                break  # a parent gets its turn when its last child has gone
        del self._rank[block]
        self._was_read.discard(block)
        parent = self._parents[block]
        self._children[parent] -= 1
        if not self._children[parent]:
            del self._children[parent]
            if parent in self._rank:
                heapq.heappush(self._lowest, (self._rank[parent], parent))


@dataclass
class Traffic:
    """Blocks, in all and by day of the trace."""

    written: int = 0
    read: int = 0
    not_admitted: int = 0  # times
    unsaved: int = 0  # that L2 lost because the disk was too slow to take them
    written_on: Counter[int] = field(default_factory=Counter)
    read_on: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class DiskSizes:
    """In blocks of the simulation."""

    pages: int
    memory_pages: int  # of L2
    block_tokens: int
    page_bytes: int
    writes_per_s: float = math.inf


class SimulatedDisk:
    """L3 behind the engine's own rule of admission. `key_of` has what the rule knows of each block:
    8 bytes, well mixed."""

    def __init__(
        self,
        setup: DiskSetup,
        sizes: DiskSizes,
        parents: Sequence[Block],
        key_of: Sequence[bytes],
    ) -> None:
        self.traffic = Traffic()
        self._setup = setup
        self._sizes = sizes
        self._key_of = key_of
        self._index: Index = (
            LruIndex(sizes.pages)
            if setup.eviction == "lru"
            else KeepReusedIndex(sizes.pages, parents)
        )
        self.held = self._index.held
        self._now = 0.0
        self._busy_until = 0.0
        self._last_day = _LastDay()
        self._sightings: Counter[Block] = Counter()
        self._admission = self._make_admission()

    def begin(self, chain: Sequence[Block], found: int, from_disk: set[Block], now: float) -> None:
        """A request begins, the first `found` of its blocks being in a tier."""
        self._now = now
        self._index.touch(chain, from_disk)
        self.traffic.read += len(from_disk)
        self.traffic.read_on[int(now // DAY_S)] += len(from_disk)
        if self._admission is not None and self._setup.admission == "auto":
            key_of = self._key_of
            uses = Uses(
                [key_of[block] for block in chain[:found]],
                [key_of[block] for block in chain[found:]],
                {key_of[block] for block in from_disk},
            )
            self._admission.used(uses, now)

    def end(self, chain: Sequence[Block]) -> None:
        """All of the request's blocks are there."""
        self._index.touch(chain, frozenset())

    def offer(self, block: Block, *, was_used: bool, chain_tokens: int) -> bool:
        """L2 is about to lose the block, or has just got it. Whether it is on disk now; what is
        refused is to be offered again when it has been used."""
        if block in self.held:
            return True
        traffic = self.traffic
        if not self._has_time(chain_tokens):
            traffic.unsaved += 1
            return False
        if self._admission is not None and not self._admission.admits(
            self._key_of[block], was_used, self._now
        ):
            traffic.not_admitted += 1
            return False
        if not self._is_seen_enough(block, chain_tokens):
            traffic.not_admitted += 1
            return False
        self._write(block)
        return True

    def _write(self, block: Block) -> None:
        self._index.add(block)
        self.traffic.written += 1
        self.traffic.written_on[int(self._now // DAY_S)] += 1
        self._last_day.add(self._now, self._sizes.page_bytes)
        self._busy_until = max(self._busy_until, self._now) + 1 / self._sizes.writes_per_s
        if self._admission is not None:
            self._admission.stored(self._key_of[block], self._now)

    def _has_time(self, chain_tokens: int) -> bool:
        """Blocks wait in L2 for the disk, in half of it at most. What one request pushes out leaves
        by and by, while it is computed, and so may be as much as it brings."""
        writes_per_s = self._sizes.writes_per_s
        if math.isinf(writes_per_s):
            return True
        waiting = (self._busy_until - self._now) * writes_per_s
        chain_blocks = chain_tokens // self._sizes.block_tokens
        return waiting < max(1, self._sizes.memory_pages // 2, chain_blocks)

    def _is_seen_enough(self, block: Block, chain_tokens: int) -> bool:
        least, chain_least = self._setup.sightings, self._setup.sightings_tokens
        if least <= 1 or (chain_least and chain_tokens >= chain_least):
            return True
        self._sightings[block] += 1
        return self._sightings[block] >= least

    def _make_admission(self) -> Admission | None:
        limit, is_choosy = self._setup.bytes_per_day, self._setup.admission == "auto"
        if limit is None and not is_choosy:
            return None
        budget = None
        if limit is not None:
            budget = WriteBudget(limit, lambda: self._last_day.bytes_at(self._now))
        return Admission(
            self._sizes.pages,
            self._sizes.page_bytes,
            budget,
            memory_pages=self._sizes.memory_pages,
            is_choosy=is_choosy,
        )


class _LastDay:
    """Bytes written in the last 24 hours, by the minute."""

    MINUTE_S = 60.0

    def __init__(self) -> None:
        self._minutes: deque[tuple[float, int]] = deque()  # (its end, bytes)
        self._bytes = 0

    def add(self, now: float, count: int) -> None:
        self._bytes += count
        if self._minutes and now < self._minutes[-1][0]:
            end, before = self._minutes.pop()
            self._minutes.append((end, before + count))
        else:
            self._minutes.append((now + self.MINUTE_S, count))

    def bytes_at(self, now: float) -> int:
        while self._minutes and self._minutes[0][0] <= now - DAY_S:
            self._bytes -= self._minutes.popleft()[1]
        return self._bytes
