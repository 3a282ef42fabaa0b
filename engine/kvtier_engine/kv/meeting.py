"""Load from the back, compute from the front, until the two meet.

"Compute or Load KV Cache? Why Not Both?", arXiv 2410.03065. Pure: no bytes, no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kvtier_engine.kv.rates import PageRates


def pages_to_compute(coming: int, ahead: int, lost: int, rates: PageRates) -> int:
    """Of `coming` pages that can be loaded, how many had better be computed, so that computing
    and loading end at the same time. `ahead`: pages of others that are loaded before; `lost`:
    pages that have to be computed in any case.

    Loads take (coming - k + ahead) / load, computing takes (k + lost) / compute.
    """
    if not rates.compute:
        return 0  # nothing was ever computed here: what is being loaded is worth waiting for
    if rates.load is None:
        return 0
    if rates.load <= 0:
        return coming
    share = rates.compute / (rates.compute + rates.load)
    return max(0, min(coming, int((coming + ahead) * share - lost * (1.0 - share))))


@dataclass(slots=True, eq=False)
class Gap:
    """The pages of a running sequence, from the first that it lacks to the last that some tier
    has. A page in it is there (in L1), or is coming from disk, or is lost and has to be computed.
    """

    end: int  # pages behind it are in no tier
    index_of: dict[bytes, int]  # of all pages before `end`
    there: set[int] = field(default_factory=set)
    is_met: bool = False  # some were computed that were coming

    def skip(self, index: int) -> int:
        """The first page from `index` on that is not there."""
        while index < self.end and index in self.there:
            index += 1
        return index

    def run(self, index: int) -> int:
        """Where the run of pages that are not there, which begins at `index`, ends."""
        while index < self.end and index not in self.there:
            index += 1
        return index


def compute_run(
    first: int, end: int, is_coming: Callable[[int], bool], choose: Callable[[], int]
) -> int:
    """Of the missing pages `first` to `end`, how many to compute now: all up to one that is
    coming, and more of these as `choose` says how many are worth it."""
    index = first
    while index < end and not is_coming(index):
        index += 1
    if index > first:
        return index - first
    worth = choose()
    # In halves: by the time one is computed, the rates and what has arrived are known better.
    return min(end - first, worth if worth <= 2 else (worth + 1) // 2)
