"""Tiers and ranks without bytes: a page holds what its KV would depend on.

The "KV" of a position is a digest of all tokens up to it, computed from the KV of the
position before, as attention would. So whoever reads a page that belongs to another
prefix gets another answer, and the tests see it.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from hashlib import blake2b
from types import SimpleNamespace
from typing import Any

from kvtier_engine.runner.step import Sampled, Step, TierSizes
from kvtier_store import Status

VOCABULARY = 50
START = b"\0" * 8

Kv = bytes
Page = list[Kv | None]


def next_kv(before: Kv, token: int) -> Kv:
    return blake2b(before + token.to_bytes(4, "little"), digest_size=8).digest()


def draw(kv: Kv) -> int:
    return int.from_bytes(kv, "little") % VOCABULARY


def reference_answer(prompt: list[int], tokens: int) -> list[int]:
    """What an engine with no cache at all says."""
    kv = START
    for token in prompt:
        kv = next_kv(kv, token)
    answer = []
    for _ in range(tokens):
        answer.append(draw(kv))
        kv = next_kv(kv, answer[-1])
    return answer


class FakeArena:
    """Slots of host memory; `pieces` gives the slot's number for an address."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.content: list[Page | None] = [None] * slots
        self.table: dict[int, bytes] = {}
        self.parents: dict[int, bytes] = {}
        self.bad: set[int] = set()
        self.populated = slots
        self.populated_bytes = self.mapped_bytes = slots

    def pieces(self, slot: int) -> list[tuple[int, int]]:
        return [(slot, 1)]

    def publish(self, slot: int, key: bytes, parent: bytes) -> None:
        self.table[slot] = key
        self.parents[slot] = parent

    def retract(self, slot: int) -> None:
        self.table.pop(slot, None)
        self.content[slot] = None

    def move(self, slot: int, to: int) -> None:
        assert to not in self.table, "a slot in use was overwritten"
        self.table[to] = self.table.pop(slot)
        self.parents[to] = self.parents.pop(slot)
        self.content[to], self.content[slot] = self.content[slot], None
        if slot in self.bad:
            self.bad.remove(slot)
            self.bad.add(to)

    def prefault(self, threads: int = 2, slots: int | None = None) -> None:
        self.populated = self.slots if slots is None else slots

    def release(self, first_slot: int) -> None:
        assert all(slot < first_slot for slot in self.table), "a page lost its memory"
        self.content[first_slot:] = [None] * (self.slots - first_slot)
        self.populated = first_slot

    def verify(self, slot: int) -> bool:
        return slot not in self.bad

    def entries(self) -> list[Any]:
        return [
            SimpleNamespace(slot=slot, key=key, parent=self.parents[slot])
            for slot, key in self.table.items()
        ]


class FakeStore:
    """A disk whose requests end when the test says so, and how it says."""

    def __init__(self, arena: FakeArena) -> None:
        self.arena = arena
        self.pages: dict[bytes, Page] = {}
        self.open: deque[Any] = deque()
        self.ended: list[Any] = []
        self.reads = 0
        self.sightings_min = 1  # the admission rule
        self.sightings: Counter[bytes] = Counter()
        self.offered: list[Any] = []
        self.pins: Counter[bytes] = Counter()

    def contains(self, keys: list[bytes]) -> list[bool]:
        return [key in self.pages for key in keys]

    def submit_get(self, batch: list[Any]) -> None:
        self.open.extend(batch)

    def submit_put(self, batch: list[Any]) -> None:
        self.offered.extend(batch)
        for request in batch:
            self.sightings[request.key] += 1
            if request.key in self.pages or self.is_being_written(request.key):
                self._end(request, Status.ALREADY_PRESENT)
            elif self.sightings[request.key] >= self.sightings_min:
                self.open.append(request)
            else:
                self._end(request, Status.NOT_ADMITTED)

    def is_being_written(self, key: bytes) -> bool:
        return any(each.key == key and hasattr(each, "parent") for each in self.open)

    def _end(self, request: Any, status: Status) -> None:
        self.ended.append(SimpleNamespace(ticket=request.ticket, status=status))

    def end_one(self, status: Status = Status.OK) -> None:
        """The oldest open request ends; `status` other than OK fails it."""
        if not self.open:
            return
        request = self.open.popleft()
        slot = request.pieces[0][0]
        if hasattr(request, "parent"):
            if status == Status.OK:
                content = self.arena.content[slot]
                assert content is not None, "an empty slot was written to disk"
                assert self.arena.table[slot] == request.key, "the slot changed under the write"
                self.pages[request.key] = list(content)
        elif status == Status.OK and request.key not in self.pages:
            status = Status.MISS
        elif status == Status.OK:
            self.reads += 1
            self.arena.content[slot] = list(self.pages[request.key])
        self._end(request, status)

    def poll(self) -> list[Any]:
        ended, self.ended = self.ended, []
        return ended

    def touch(self, keys: list[bytes]) -> None:
        pass

    def pin(self, keys: list[bytes]) -> None:
        self.pins.update(key for key in keys if key in self.pages)

    def unpin(self, keys: list[bytes]) -> None:
        self.pins -= Counter(keys)

    def evict(self, keys: list[bytes]) -> int:
        gone = [key for key in keys if key in self.pages and not self.pins[key]]
        for key in gone:
            del self.pages[key]
        return len(gone)

    def stats(self) -> Any:
        return SimpleNamespace(
            capacity_pages=100,
            capacity_bytes=100,
            pages=len(self.pages),
            directories=[],
        )

    def clear(self) -> int:
        count = len(self.pages)
        self.pages.clear()
        self.pins.clear()
        return count

    def close(self) -> None:
        pass


@dataclass
class FakeRanks:
    """Computes steps on pages of digests, and refuses to attend to a wrong one."""

    page_tokens: int
    pages: int
    arena: FakeArena | None = None
    offload_delay: int = 0  # steps until a step's offloads are reported done
    tokens_max: int = 10**9  # in one step
    chunks_max: int = 10**9
    computed: int = 0
    copied_up: int = 0
    sizes: TierSizes | None = None  # as last told
    _l1: list[Page] = field(init=False)
    _truth: dict[int, list[int]] = field(default_factory=dict)
    _offloads: deque[Step] = field(default_factory=deque)
    _done: int = 0

    def __post_init__(self) -> None:
        self._l1 = [[None] * self.page_tokens for _ in range(self.pages)]

    def execute(self, step: Step) -> list[Sampled]:
        if step.sizes is not None:
            self.sizes = step.sizes
            for page in range(step.sizes.l1_pages, self.pages):
                self._l1[page] = [None] * self.page_tokens
        for new in step.new:
            self._truth[new.sequence_id] = list(new.prompt_ids)
        for copy in step.restores:
            content = self.arena.content[copy.slot] if self.arena else None
            assert content is not None, "an empty slot was restored"
            self._l1[copy.page] = list(content)
            self.copied_up += 1
        tokens = sum(len(chunk.token_ids) for chunk in step.chunks)
        assert tokens <= self.tokens_max, "the step is larger than its budget"
        assert len(step.chunks) <= self.chunks_max, "more sequences run than may"
        sampled = [self._compute(chunk) for chunk in step.chunks]
        self._offloads.append(step)
        for sequence in step.drop:
            del self._truth[sequence]
        while len(self._offloads) > self.offload_delay:
            self._copy_down(self._offloads.popleft())
        return [sample for sample in sampled if sample is not None]

    def offloads_done(self) -> int:
        return self._done

    @property
    def known_sequences(self) -> int:
        return len(self._truth)

    def settle(self) -> None:
        """All copies end."""
        while self._offloads:
            self._copy_down(self._offloads.popleft())

    def _copy_down(self, step: Step) -> None:
        for copy in step.offloads:
            assert self.arena is not None
            content = self._l1[copy.page]
            assert None not in content, "a page was offloaded before it was full"
            self.arena.content[copy.slot] = list(content)
        self._done = step.number

    def _compute(self, chunk: Any) -> Sampled | None:
        truth = self._truth[chunk.sequence_id]
        size = self.page_tokens
        assert truth[chunk.start : chunk.start + len(chunk.token_ids)] == chunk.token_ids
        kv = START
        for position in range(chunk.start):
            kv = next_kv(kv, truth[position])
            found = self._l1[chunk.pages[position // size]][position % size]
            assert found == kv, f"sequence {chunk.sequence_id} attends to wrong KV at {position}"
        for offset, token in enumerate(chunk.token_ids):
            position = chunk.start + offset
            kv = next_kv(kv, token)
            self._l1[chunk.pages[position // size]][position % size] = kv
            self.computed += 1
        if not chunk.sample:
            return None
        truth.append(draw(kv))
        return Sampled(chunk.sequence_id, truth[-1], None)
