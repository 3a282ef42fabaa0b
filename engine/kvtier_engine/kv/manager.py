"""Where each page is, and which pages move: one cache out of three tiers.

Pure decisions: no bytes move here and torch is not imported. The scheduler asks, the
manager answers with page tables and with the copies to put into the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.kv.host import HostTier, Link
from kvtier_engine.kv.keys import KeyChain
from kvtier_engine.kv.offload import Offload, Offloader
from kvtier_engine.kv.pages import PagePool
from kvtier_engine.kv.prefetch import Lookup, Prefetcher
from kvtier_engine.kv.save import Saver, SaveRules
from kvtier_engine.messages import CachedTokens

LOOKUPS_MAX = 3  # of one sequence while it waits


@dataclass(slots=True, eq=False)
class SequencePages:
    """One sequence's share of the cache; only the manager changes it."""

    chain: KeyChain
    pages: list[int] = field(default_factory=list)  # page table: L1 pages from position 0
    chain_pages: int = 0  # pages of its tokens when it was admitted, the last one begun or full
    published: int = 0  # leading pages that others can find in L1
    lookup: Lookup | None = None  # while it waits
    lookups: int = 0  # made during this wait
    blocked_on: bytes | None = None  # the page that somebody else was computing


class Refusal(Enum):
    """Why a sequence cannot be admitted yet."""

    NO_PAGES = "L1 has too few pages"
    COMPUTING = "another sequence is computing the page that it needs next"
    LOADING = "pages found in L1 have left it, and are read from disk instead"


@dataclass(frozen=True, slots=True)
class Admission:
    cached: CachedTokens  # tokens that need not be computed, by tier


@dataclass(frozen=True, slots=True)
class Restore:
    """An L2 slot to copy to an L1 page before the step's chunks are computed."""

    page: int
    slot: int


@dataclass(slots=True)
class Counters:
    """Totals since start."""

    restored_pages: int = 0


class KvManager:
    """Owns the bookkeeping of all tiers. One thread."""

    def __init__(
        self,
        page_tokens: int,
        pool: PagePool,
        host: HostTier | None = None,
        disk: DiskTier | None = None,
        *,
        prefix_reuse: bool = True,
        save_rules: SaveRules = SaveRules(),  # noqa: B008 (frozen)
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert host is not None or disk is None, "pages reach the disk through L2"
        self.page_tokens = page_tokens
        self.pool = pool
        self.host = host
        self.disk = disk
        self.counters = Counters()
        self.prefetcher = Prefetcher(host, disk, clock) if host else None
        self.saver = Saver(host, disk, save_rules, clock) if host and disk else None
        self.offloader = Offloader(pool, host, self.saver) if host else None
        self._prefix_reuse = prefix_reuse
        self._clock = clock
        self._computing: dict[bytes, SequencePages] = {}  # who is computing a page
        self._restores: list[Restore] = []  # of the step being put together
        self._offloads: list[Offload] = []
        self._restoring: list[int] = []  # slots pinned until the step has run

    def new_sequence(self, root: bytes) -> SequencePages:
        return SequencePages(KeyChain(root, self.page_tokens))

    # While the sequence waits.

    def look_up(self, seq: SequencePages, token_ids: Sequence[int]) -> None:
        """Finds the sequence's pages and starts to bring those on disk to L2."""
        assert seq.lookup is None and not seq.pages
        seq.lookups += 1
        seq.chain.extend(token_ids)
        keys = self._reusable(seq, token_ids)
        if self.prefetcher is None:
            seq.lookup = Lookup(heard=self._clock())
        else:
            seq.lookup = self.prefetcher.start(keys, [self.pool.find(k) is not None for k in keys])

    def is_ready(self, seq: SequencePages) -> bool:
        """True if the sequence waits for no read (see Prefetcher.is_ready)."""
        assert seq.lookup is not None
        return self.prefetcher is None or self.prefetcher.is_ready(seq.lookup)

    def admit(self, seq: SequencePages, token_ids: Sequence[int]) -> Admission | Refusal:
        """Gives the sequence L1 pages for all of `token_ids`: held ones for hits in L1, pages
        to restore for hits in L2, empty ones for the rest."""
        assert seq.lookup is not None and seq.lookup.done and not seq.pages
        if seq.blocked_on in self._computing:
            return Refusal.COMPUTING
        seq.blocked_on = None
        keys = self._reusable(seq, token_ids)
        sources = self._sources(keys)
        if len(sources) < len(keys):
            missing = keys[len(sources)]
            if missing in self._computing:
                seq.blocked_on = missing
                return Refusal.COMPUTING
            if self._is_worth_another_look(seq, missing):
                self._end_lookup(seq)
                self.look_up(seq, token_ids)
                return Refusal.LOADING
        in_l1 = [page for page, _ in sources if page is not None]
        empty = -(-len(token_ids) // self.page_tokens) - len(in_l1)
        if empty > self.pool.available - sum(map(self.pool.is_cached, in_l1)):
            return Refusal.NO_PAGES
        self.pool.hold(in_l1)
        self._touch(seq.chain.keys)
        seq.chain_pages = -(-len(token_ids) // self.page_tokens)
        if self.saver is not None:
            found, from_disk = len(sources), seq.lookup.from_disk
            self.saver.used(seq.chain.keys, found, from_disk, seq.chain_pages)
        allocated = self.pool.allocate(empty, seq.chain.keys)
        assert allocated is not None, "the count above is what allocate goes by"
        admission = self._fill(seq, keys, sources, allocated)
        self._end_lookup(seq)
        self._claim(seq, token_ids)
        self.pool.reorder(keys[: len(sources)])
        seq.lookups = 0
        return admission

    # While the sequence runs.

    def grow(self, seq: SequencePages, tokens: int) -> bool:
        """Makes the page table long enough for `tokens`; False if L1 has no page left."""
        missing = -(-tokens // self.page_tokens) - len(seq.pages)
        if missing > 0:
            pages = self.pool.allocate(missing)
            if pages is None:
                return False
            seq.pages.extend(pages)
        return True

    def plan_offloads(
        self, step: int, seq: SequencePages, token_ids: Sequence[int], computed: int
    ) -> None:
        """The first `computed` of `token_ids` will have been computed after this step: pages
        that it fills go down with it."""
        chain = seq.chain
        chain.extend(token_ids)
        if self.offloader is None or not self._prefix_reuse:
            return
        for index in range(seq.published, computed // self.page_tokens):
            link = Link(chain.parent(index), seq.chain_pages)
            offload = self.offloader.start(step, seq.pages[index], chain.keys[index], link)
            if offload is not None:
                self._offloads.append(offload)

    def computed(self, seq: SequencePages, tokens: int) -> None:
        """The step has computed the sequence up to `tokens`: full pages can be shared."""
        for index in range(seq.published, tokens // self.page_tokens):
            key = seq.chain.keys[index]
            if self._prefix_reuse:
                self.pool.publish(seq.pages[index], key)
            if self._computing.get(key) is seq:
                del self._computing[key]
            seq.published = index + 1

    def release(self, seq: SequencePages) -> None:
        """The sequence ended, or was preempted, or left the queue: its pages stay cached."""
        for key in seq.chain.keys[seq.published :]:
            if self._computing.get(key) is seq:
                del self._computing[key]
        self._end_lookup(seq)
        self.pool.release(seq.pages)
        self._reorder(seq.chain.keys[: seq.published])
        seq.pages = []
        seq.published = 0
        seq.lookups = 0
        seq.blocked_on = None

    # Around the step.

    def take_copies(self) -> tuple[list[Restore], list[Offload]]:
        """The copies that belong to the step just put together."""
        copies = (self._restores, self._offloads)
        self._restores, self._offloads = [], []
        return copies

    def step_done(self) -> None:
        """All ranks have run the restores of the last step: a step with restores has chunks as
        well, and no rank ends a chunk before every rank has begun it."""
        assert self.host is not None or not self._restoring
        for slot in self._restoring:
            self.host.unpin(slot)  # type: ignore[union-attr]
        self._restoring.clear()

    def offloads_done(self, step: int) -> None:
        """All ranks have made the offloads of all steps up to `step`."""
        if self.offloader is not None:
            self.offloader.copied_up_to(step)

    def poll(self) -> None:
        """Takes in what the disk has finished and gives it more. Never waits."""
        if self.disk is None or self.saver is None or self.prefetcher is None:
            return
        loaded, saved = self.disk.poll()
        for load in loaded:
            self.prefetcher.finish(load)
        for save in saved:
            self.saver.finish(save)
        self.saver.pump()

    def flush(self) -> None:
        """The engine stops: what L2 alone holds goes to the disk, by `poll`, until `idle`."""
        if self.saver is not None:
            self.saver.flush()

    @property
    def idle(self) -> bool:
        """Nothing is on its way between tiers."""
        parts = (self.offloader, self.saver, self.prefetcher)
        return not any(part.in_flight for part in parts if part)

    def check(self) -> None:
        """Raises AssertionError if the bookkeeping of a tier is off."""
        self.pool.check()
        if self.host is not None:
            self.host.check()

    # Parts of the above.

    def _reusable(self, seq: SequencePages, token_ids: Sequence[int]) -> list[bytes]:
        """Keys of the pages that may come from a cache: all full pages, but at least the
        last token has to be computed, for its logits."""
        if not self._prefix_reuse:
            return []
        return seq.chain.keys[: (len(token_ids) - 1) // self.page_tokens]

    def _is_worth_another_look(self, seq: SequencePages, missing: bytes) -> bool:
        """`missing` is on disk although the lookup did not bring it: others pushed it out of
        L1 and L2 while the sequence waited. It is read once more, not for ever."""
        lookup = seq.lookup
        if self.disk is None or lookup is None or seq.lookups >= LOOKUPS_MAX:
            return False
        if lookup.is_cut or missing in lookup.failed:
            return False
        return self.disk.contains([missing])[0]

    def _sources(self, keys: Sequence[bytes]) -> list[tuple[int | None, int | None]]:
        """(L1 page or None, L2 slot or None) of the leading pages that are in one of them."""
        sources: list[tuple[int | None, int | None]] = []
        for key in keys:
            page = self.pool.find(key)
            slot = self.host.find(key) if page is None and self.host is not None else None
            if page is None and slot is None:
                break
            sources.append((page, slot))
        return sources

    def _fill(
        self,
        seq: SequencePages,
        keys: Sequence[bytes],
        sources: Sequence[tuple[int | None, int | None]],
        allocated: list[int],
    ) -> Admission:
        """Builds the page table; pages to restore can be shared at once, since a step's
        restores are complete before anything in it reads."""
        assert seq.lookup is not None
        found = [0, 0, 0]
        empty = iter(allocated)
        for key, (page, slot) in zip(keys, sources, strict=False):
            if page is not None:
                seq.pages.append(page)
                found[0] += self.page_tokens
                continue
            assert slot is not None and self.host is not None
            page = next(empty)
            seq.pages.append(page)
            self.host.pin(slot)
            self._restoring.append(slot)
            self._restores.append(Restore(page, slot))
            self.pool.publish(page, key)
            found[2 if key in seq.lookup.from_disk else 1] += self.page_tokens
            self.counters.restored_pages += 1
        seq.pages.extend(empty)
        seq.published = len(sources)
        return Admission(CachedTokens(*found))

    def _claim(self, seq: SequencePages, token_ids: Sequence[int]) -> None:
        """Others wait for the pages that this sequence is about to compute."""
        if self._prefix_reuse:
            for key in seq.chain.keys[seq.published : len(token_ids) // self.page_tokens]:
                self._computing.setdefault(key, seq)

    def _end_lookup(self, seq: SequencePages) -> None:
        if seq.lookup is not None and self.prefetcher is not None:
            self.prefetcher.end(seq.lookup)
        seq.lookup = None

    def _touch(self, keys: Sequence[bytes]) -> None:
        """The chain is used: before its missing pages enter a tier, who are not used again."""
        self.pool.touch(keys)
        if self.host is not None:
            self.host.touch(keys)
        if self.disk is not None:
            self.disk.touch(keys)

    def _reorder(self, keys: Sequence[bytes]) -> None:
        self.pool.reorder(keys)
        if self.host is not None:
            self.host.reorder(keys)
        if self.disk is not None:
            self.disk.touch(keys)
