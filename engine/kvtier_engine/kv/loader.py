"""What a sequence loads from L3 and what it computes meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kvtier_engine.kv.meeting import Gap, compute_run, pages_to_compute
from kvtier_engine.kv.pages import PagePool
from kvtier_engine.kv.prefetch import Lookup, Prefetcher
from kvtier_engine.kv.rates import PageRates
from kvtier_engine.kv.restores import Restores
from kvtier_engine.kv.sequence_pages import SequencePages


class KnowsRates(Protocol):
    def pages(self) -> PageRates: ...


@dataclass(slots=True)
class Counters:
    """Totals since start."""

    met: int = 0  # gaps that were closed from both sides
    computed_pages: int = 0  # of gaps: the disk had them


class Loader:
    """A sequence with a gap runs: its missing pages are computed from the front while they arrive
    from the back (kv/meeting.py), or it waits for them where that is quicker."""

    def __init__(
        self,
        pool: PagePool,
        prefetcher: Prefetcher,
        restores: Restores,
        rates: KnowsRates | None,
        page_tokens: int,
    ) -> None:
        """`rates`: None to wait for everything that the disk has."""
        self._pool = pool
        self._prefetcher = prefetcher
        self._restores = restores
        self._rates = rates
        self._page_tokens = page_tokens
        self.counters = Counters()
        self.open_gaps = 0

    def is_ready(self, lookup: Lookup) -> bool:
        """True if the request need not wait: no more pages arrive, or some of those that do had
        better be computed."""
        if self._prefetcher.is_over(lookup):
            return True
        return self._worth(lookup, len(lookup.failed)) > 0

    def open(self, seq: SequencePages, gap: Gap) -> None:
        """The sequence runs from now on, with pages still to come."""
        lookup = seq.lookup
        assert lookup is not None
        self._prefetcher.settle(lookup)
        # Not what others have computed meanwhile, nor what lies behind a page that is nowhere.
        lacks = {key for key, index in gap.index_of.items() if index not in gap.there}
        self._prefetcher.limit(lookup, lacks)
        seq.gap = gap
        self.open_gaps += 1

    def restore(self, seq: SequencePages, index: int, slot: int) -> None:
        """A page of the sequence comes from its L2 slot, whose pin this takes over, with the next
        step; others can share it at once, as a step's restores are complete before anything in it
        reads."""
        self._restores.add(seq.pages[index], slot)
        if seq.stores:
            self._pool.publish(seq.pages[index], seq.chain.keys[index])

    def advance(self, seq: SequencePages, computed: int) -> int:
        """How far the sequence is, with pages that have arrived behind what it has computed."""
        gap = seq.gap
        if gap is None:
            return computed
        self._take_in(seq)
        if computed % self._page_tokens:
            return computed  # in the middle of a page
        index = gap.skip(computed // self._page_tokens)
        if index >= gap.end:
            self.close(seq)
        return index * self._page_tokens

    def tokens_now(self, seq: SequencePages, computed: int, wanted: int) -> int:
        """Of the next `wanted` tokens, how many to compute in this step; 0: wait for the disk."""
        gap, lookup = seq.gap, seq.lookup
        if gap is None or lookup is None:
            return wanted
        size, keys = self._page_tokens, seq.chain.keys
        index, within = divmod(computed, size)
        end = gap.run(index)
        pages = 1
        if not within:
            missing = sum(i not in gap.there for i in range(index, gap.end))
            pages = compute_run(
                index,
                end,
                lambda i: lookup.is_coming(keys[i]),
                lambda: self._choose(lookup, missing - lookup.coming),
            )
        tokens = min(wanted, pages * size - within)
        for i in range(index, -(-(computed + tokens) // size)):
            if self._prefetcher.give_up(lookup, keys[i]):
                self.counters.computed_pages += 1
                gap.is_met = True
        return tokens

    def close(self, seq: SequencePages) -> None:
        """Nothing more is to come for the sequence, or it goes away."""
        if seq.gap is not None:
            self.open_gaps -= 1
            self.counters.met += seq.gap.is_met
            seq.gap = None
        if seq.lookup is not None:
            self._prefetcher.end(seq.lookup)
            seq.lookup = None

    def _choose(self, lookup: Lookup, lost: int) -> int:
        worth = self._worth(lookup, lost)
        # Where what is left finds no slot in L2, nor will at once, something has to go on.
        is_stuck = self._prefetcher.is_over(lookup) and not self._restores.in_flight
        return max(1, worth) if is_stuck else worth

    def _worth(self, lookup: Lookup, lost: int) -> int:
        if self._rates is None:
            return 0
        ahead = self._prefetcher.ahead_of(lookup)
        return pages_to_compute(lookup.coming, ahead, lost, self._rates.pages())

    def _take_in(self, seq: SequencePages) -> None:
        """Pages that have arrived in L2 go to their places in L1 with the next step."""
        gap, lookup = seq.gap, seq.lookup
        assert gap is not None
        assert lookup is not None
        for key in lookup.landed:
            index = gap.index_of.get(key)
            slot = lookup.pins.pop(key)
            assert index is not None and index not in gap.there, "a page came that nobody lacks"
            self.restore(seq, index, slot)
            gap.there.add(index)
            seq.found[2 if key in lookup.from_disk else 1] += self._page_tokens
        lookup.landed.clear()
