"""Where each page is, and which pages move: one cache out of three tiers.

Pure decisions: no bytes move here and torch is not imported. The scheduler asks, the
manager answers with page tables and with the copies to put into the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.kv.hints import Hints
from kvtier_engine.kv.host import HostTier, Link
from kvtier_engine.kv.keys import KeyChain
from kvtier_engine.kv.l3 import L3
from kvtier_engine.kv.loader import Loader
from kvtier_engine.kv.meeting import Gap
from kvtier_engine.kv.offload import Offload, Offloader
from kvtier_engine.kv.pages import PagePool
from kvtier_engine.kv.prefetch import Lookup, Prefetcher
from kvtier_engine.kv.rates import ComputeRate, Rates
from kvtier_engine.kv.restores import Restores
from kvtier_engine.kv.save import Saver
from kvtier_engine.kv.sequence_pages import Admission, Refusal, Restore, SequencePages, Source
from kvtier_engine.kv.tiers import Tiers
from kvtier_engine.messages import CacheHints

LOOKUPS_MAX = 3  # of one sequence while it waits


class KvManager:
    """Owns the bookkeeping of all tiers; L3 is attached by its owner (`l3`). One thread."""

    def __init__(
        self,
        page_tokens: int,
        pool: PagePool,
        host: HostTier | None = None,
        *,
        prefix_reuse: bool = True,
        rates: Rates | None = None,
        compute_while_loading: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.page_tokens = page_tokens
        self.pool = pool
        self.host = host
        self.rates = rates or Rates(
            ComputeRate(page_tokens, waits=True), page_tokens=page_tokens, page_bytes=1
        )
        self.restores = Restores(host)
        self.prefetcher = Prefetcher(host, clock) if host else None
        self.loader = (
            Loader(
                pool,
                self.prefetcher,
                self.restores,
                self.rates if compute_while_loading else None,
                page_tokens,
            )
            if self.prefetcher
            else None
        )
        self.offloader = Offloader(pool, host) if host else None
        self.tiers = Tiers(pool, host, self.offloader, self.prefetcher)
        self.hints = Hints(self.tiers, clock, reuse=prefix_reuse)
        self.l3 = L3(self.tiers, self.hints, self.rates, clock)
        self._prefix_reuse = prefix_reuse
        self._clock = clock
        self._computing: dict[bytes, SequencePages] = {}  # who is computing a page
        self._offloads: list[Offload] = []  # of the step being put together

    def new_sequence(
        self, root: bytes, hints: CacheHints | None = None, tenant: str = ""
    ) -> SequencePages:
        """`end` must be called for it."""
        marks = self.hints.begin(root, hints, tenant)
        return SequencePages(KeyChain(root, self.page_tokens), marks=marks)

    @property
    def disk(self) -> DiskTier | None:
        return self.tiers.disk

    @property
    def saver(self) -> Saver | None:
        return self.tiers.saver

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
        """True if the sequence waits for no read (see Loader.is_ready)."""
        assert seq.lookup is not None
        return self.loader is None or self.loader.is_ready(seq.lookup)

    def admit(self, seq: SequencePages, token_ids: Sequence[int]) -> Admission | Refusal:
        """Gives the sequence L1 pages for all of `token_ids`: held ones for hits in L1, pages
        to restore for hits in L2, empty ones for the rest, which is computed, or (where it has a
        gap) still comes from L3."""
        assert seq.lookup is not None and not seq.pages
        if seq.blocked_on in self._computing:
            return Refusal.COMPUTING
        if seq.no_room_at is not None and self.pool.available <= seq.no_room_at:
            return Refusal.NO_PAGES
        seq.no_room_at = None
        keys = self._reusable(seq, token_ids)
        sources = self._sources(keys, seq.lookup)
        seq.blocked_on = self._computed_by_others(keys, sources)
        if seq.blocked_on is not None:
            if self.prefetcher is not None:
                self.prefetcher.pause(seq.lookup)
            return Refusal.COMPUTING
        if len(sources) < len(keys) and self._is_worth_another_look(seq, keys[len(sources)]):
            self._end_lookup(seq)
            self.look_up(seq, token_ids)
            return Refusal.LOADING
        in_l1 = [source.page for source in sources if source.page is not None]
        empty = -(-len(token_ids) // self.page_tokens) - len(in_l1)
        if empty > self.pool.available - sum(map(self.pool.is_cached, in_l1)):
            seq.no_room_at = self.pool.available
            return Refusal.NO_PAGES
        self.pool.hold(in_l1)
        seq.chain_pages = -(-len(token_ids) // self.page_tokens)
        if seq.stores:
            self._used(seq, len(sources))
        allocated = self.pool.allocate(empty, seq.chain.keys if seq.stores else ())
        assert allocated is not None, "the count above is what allocate goes by"
        self._fill(seq, keys, sources, allocated)
        if self._keeps(seq):
            self._claim(seq, token_ids)
        if seq.stores:
            self.pool.reorder(keys[: len(sources)])
        self.hints.admitted(seq.marks, seq.chain.keys)
        seq.lookups = 0
        return Admission(seq.published * self.page_tokens)

    # While the sequence runs.

    def advance(self, seq: SequencePages, computed: int) -> int:
        """How many leading tokens have their KV in L1, now that pages may have arrived."""
        return self.loader.advance(seq, computed) if self.loader is not None else computed

    def tokens_now(self, seq: SequencePages, computed: int, wanted: int) -> int:
        """Of the next `wanted` tokens, how many to compute in this step; 0: wait for the disk."""
        return self.loader.tokens_now(seq, computed, wanted) if self.loader is not None else wanted

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
        if self.offloader is None or not self._keeps(seq):
            return
        first = self.hints.first_offload(seq.marks, seq.published)
        for index in range(first, computed // self.page_tokens):
            link = Link(chain.parent(index), seq.chain_pages)
            offload = self.offloader.start(step, seq.pages[index], chain.keys[index], link)
            if offload is not None:
                self._offloads.append(offload)

    def computed(self, seq: SequencePages, tokens: int) -> None:
        """The step has computed the sequence up to `tokens`: full pages can be shared."""
        for index in range(seq.published, tokens // self.page_tokens):
            key = seq.chain.keys[index]
            if self._keeps(seq):
                is_new = self.hints.is_new(seq.marks, key)
                self.pool.publish(seq.pages[index], key)
                if is_new:
                    self.hints.stored(seq.marks, key)
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
        if seq.stores:
            self._reorder(seq.chain.keys[: seq.published])
            self.hints.released(seq.marks, seq.chain.keys[: seq.published])
        seq.pages = []
        seq.published = 0
        seq.lookups = 0
        seq.blocked_on = None
        seq.no_room_at = None

    def end(self, seq: SequencePages) -> None:
        """The sequence is released for ever."""
        keys = seq.chain.keys[: seq.published]
        self.release(seq)
        self.hints.ended(seq.marks, keys)

    # Around the step.

    def take_copies(self, step: int) -> tuple[list[Restore], list[Offload]]:
        """The copies that belong to the step just put together."""
        offloads, self._offloads = self._offloads, []
        return self.restores.take(step), offloads

    def copies_done(self, step: int) -> None:
        """All ranks have made the copies of all steps up to `step`."""
        self.restores.done(step)
        if self.offloader is not None:
            self.offloader.copied_up_to(step)

    def poll(self) -> None:
        """Takes in what the disk has finished and gives it more. Never waits."""
        self.hints.tick()
        self.l3.poll()

    def flush(self) -> None:
        """The engine stops: what L2 alone holds goes to the disk, by `poll`, until `idle`."""
        if self.saver is not None:
            self.saver.flush()

    @property
    def copying(self) -> bool:
        """Copies between L1 and L2 are under way."""
        down = self.offloader is not None and self.offloader.copying
        return down or bool(self.restores.in_flight)

    @property
    def idle(self) -> bool:
        """Nothing is on its way between tiers."""
        down = self.offloader.in_flight if self.offloader is not None else 0
        return not (down or self.l3.in_flight or self.restores.in_flight)

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

    def _keeps(self, seq: SequencePages) -> bool:
        """Pages that the sequence computes can be found by others."""
        return self._prefix_reuse and seq.stores

    def _is_worth_another_look(self, seq: SequencePages, missing: bytes) -> bool:
        """`missing` is on disk although the lookup did not bring it: others pushed it out of
        L1 and L2 while the sequence waited. It is read once more, not for ever."""
        lookup = seq.lookup
        if self.disk is None or lookup is None or seq.lookups >= LOOKUPS_MAX:
            return False
        if missing in lookup.failed:
            return False
        return self.disk.contains([missing])[0]

    def _sources(self, keys: Sequence[bytes], lookup: Lookup) -> list[Source]:
        """Where the leading pages are, up to the last that is in some tier."""
        coming = lookup.pending.union(lookup.wanted)
        sources: list[Source] = []
        reach = 0
        for key in keys:
            page = self.pool.find(key)
            slot = self.host.find(key) if page is None and self.host is not None else None
            source = Source(page, slot, page is None and slot is None and key in coming)
            if not source.is_there and not source.is_coming and key not in lookup.failed:
                break
            sources.append(source)
            if source.is_there or source.is_coming:
                reach = len(sources)
        return sources[:reach]

    def _computed_by_others(self, keys: Sequence[bytes], sources: Sequence[Source]) -> bytes | None:
        """A page that this sequence lacks and another one is computing."""
        for index, source in enumerate(sources):
            if not source.is_there and keys[index] in self._computing:
                return keys[index]
        following = keys[len(sources)] if len(sources) < len(keys) else None
        return following if following in self._computing else None

    def _fill(
        self,
        seq: SequencePages,
        keys: Sequence[bytes],
        sources: Sequence[Source],
        allocated: list[int],
    ) -> None:
        """Builds the page table."""
        assert seq.lookup is not None
        seq.found = [0, 0, 0]
        empty = iter(allocated)
        there = set()
        for index, source in enumerate(sources):
            seq.pages.append(next(empty) if source.page is None else source.page)
            if source.slot is not None:
                assert self.host is not None and self.loader is not None, "a slot without an L2"
                self.host.pin(source.slot)
                self.loader.restore(seq, index, source.slot)
            if source.is_there:
                there.add(index)
                in_l2 = 2 if keys[index] in seq.lookup.from_disk else 1
                seq.found[in_l2 if source.page is None else 0] += self.page_tokens
        seq.pages.extend(empty)
        seq.published = next((i for i in range(len(sources)) if i not in there), len(sources))
        if len(there) == len(sources) or self.loader is None:
            self._end_lookup(seq)
        else:
            index_of = {key: index for index, key in enumerate(keys[: len(sources)])}
            self.loader.open(seq, Gap(len(sources), index_of, there))

    def _claim(self, seq: SequencePages, token_ids: Sequence[int]) -> None:
        """Others wait for the pages that this sequence is about to compute."""
        for key in seq.chain.keys[seq.published : len(token_ids) // self.page_tokens]:
            self._computing.setdefault(key, seq)

    def _end_lookup(self, seq: SequencePages) -> None:
        if self.loader is not None:
            self.loader.close(seq)
        seq.lookup = None

    def _used(self, seq: SequencePages, found: int) -> None:
        """A request is about to use its pages, the first `found` of which were in some tier."""
        lookup = seq.lookup
        assert lookup is not None
        self._touch(seq.chain.keys)
        if self.saver is not None:
            from_disk = lookup.from_disk.union(lookup.pending, lookup.wanted)
            self.saver.used(seq.chain.keys, found, from_disk, seq.chain_pages)

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
