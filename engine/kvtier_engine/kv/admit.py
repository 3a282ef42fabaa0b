"""Which pages are worth a write to the disk. Pure decisions; times are passed in.

The rule: the disk takes only what has been used before while, of two disks in miniature that see
the same requests, the one that does so finds as many pages as the one that takes everything. So a
disk that is large enough learns at once, and one that is too small is not worn by what it would
lose before anybody asks for it.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

GHOSTS_PER_PAGE = 4  # ids remembered of what the disk has not, for each page that it can have
SEEN_MAX = 1 << 22  # ids in all: 64 MiB
MINIATURE_PAGES = 4096  # of a miniature: of a larger disk one page in so many is followed
MEMORY = 16  # times the disk's pages: of so many pages asked for it is counted what was found
TOLERANCE = 0.001  # of the pages asked for: hits that fewer writes are worth
SHORTEST_S = 0.001
DAY_S = 86400.0
LOOK_EVERY_S = 60.0  # at what others have written
BURST = 25  # a budget can be saved up to one part in so many of a day's


class AverageTime:
    """An exponentially weighted moving average of seconds, by their logarithms: times lie orders of
    magnitude apart, and a few long ones must not hide that most are short. `empty` before the
    first one."""

    def __init__(self, empty: float, weight: float) -> None:
        self.value = empty
        self._weight = weight
        self._log: float | None = None

    def add(self, seconds: float) -> None:
        log = math.log(max(seconds, SHORTEST_S))
        self._log = log if self._log is None else self._log + (log - self._log) * self._weight
        self.value = math.exp(self._log)


class SeenPages:
    """When pages were last used, by 8 bytes of their keys, in memory of a fixed size. Forgotten at
    the engine's end.

    Of two generations the younger takes what is used; when it is full, the older is forgotten. So
    pages are forgotten in the order of their last uses, those of a chain from its tail. Were
    they forgotten here and there, the disk would get chains with holes, whose pages behind the
    first hole nobody finds.
    """

    def __init__(self, pages: int) -> None:
        self._generation_pages = max(1, min(pages, SEEN_MAX) // 2)
        self._young = _Generation(self._generation_pages)
        self._old = _Generation(self._generation_pages)

    def add(self, key: bytes, now: float) -> None:
        self._young.set(_id(key), now)
        if len(self._young) == self._generation_pages:
            self._old, self._young = self._young, _Generation(self._generation_pages)

    def use(self, key: bytes, now: float) -> float | None:
        """Seconds since the page was last used; None, and nothing is done, if it is not known."""
        before = self.last_use(key)
        if before is None:
            return None
        self.add(key, now)
        return max(0.0, now - before)

    def __contains__(self, key: bytes) -> bool:
        return self.last_use(key) is not None

    def last_use(self, key: bytes) -> float | None:
        """As it was told; None if the page is not known."""
        young = self._young.get(_id(key))
        return self._old.get(_id(key)) if young is None else young


class _Generation:
    """A hash table of `pages` ids and times: buckets, of which a full one goes on in the next."""

    WAYS = 8

    def __init__(self, pages: int) -> None:
        self._places = (pages * 4 // 3 // self.WAYS + 1) * self.WAYS
        self._ids = array("Q", [0]) * self._places
        self._times = array("f", [0.0]) * self._places
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def get(self, number: int) -> float | None:
        at = self._place(number)
        return self._times[at] if self._ids[at] else None

    def set(self, number: int, now: float) -> None:
        at = self._place(number)
        self._held += not self._ids[at]
        self._ids[at] = number
        self._times[at] = now

    def _place(self, number: int) -> int:
        """Where the id is, or belongs. There is an empty place always."""
        begin = number * self.WAYS % self._places
        while True:
            bucket = self._ids[begin : begin + self.WAYS]
            for each in (number, 0):
                if each in bucket:
                    return begin + bucket.index(each)
            begin = (begin + self.WAYS) % self._places


def _id(key: bytes) -> int:
    return int.from_bytes(key[:8], "little") or 1  # 0 is an empty place


class WriteBudget:
    """Bytes that may be written: never more than `bytes_per_day` in any 24 hours, and spread over
    them, so that the morning does not spend what the evening needs.

    `written_last_day` says what was written in the last 24 hours, whoever wrote it: an engine
    that is started again and again does not begin with a whole budget each time.
    """

    def __init__(self, bytes_per_day: int, written_last_day: Callable[[], int]) -> None:
        self._bytes_per_day = bytes_per_day
        self._written_last_day = written_last_day
        self._burst = bytes_per_day / BURST
        self._rate = (bytes_per_day - self._burst) / DAY_S
        self._left = self._burst  # of what is spread evenly
        self._left_today = 0  # of what the last 24 hours leave
        self._then = self._look_again = -math.inf

    def take(self, count: int, now: float) -> bool:
        self._left = min(self._burst, self._left + (now - self._then) * self._rate)
        self._then = now
        if now >= self._look_again:
            self._look_again = now + LOOK_EVERY_S
            self._left_today = self._bytes_per_day - self._written_last_day()
        if count > min(self._left, self._left_today):
            return False
        self._left -= count
        self._left_today -= count
        return True


@dataclass(frozen=True, slots=True)
class Uses:
    """Pages that a request begins with."""

    found: Sequence[bytes]  # in some tier
    computed: Sequence[bytes]  # in none
    from_disk: set[bytes]  # of those found


class Miniature:
    """The index of a disk of a few pages under LRU, of which nothing is real."""

    def __init__(self, pages: int) -> None:
        self._pages_max = pages
        self._last_use: OrderedDict[bytes, float] = OrderedDict()

    def use(self, key: bytes, now: float, *, enters: bool) -> bool:
        """Whether the page was there. If not, it comes if it `enters`."""
        is_there = key in self._last_use
        if is_there or enters:
            self._last_use[key] = now
            self._last_use.move_to_end(key)
        return is_there

    def evict(self) -> float | None:
        """Makes room for what is too much, a page at a time; when it was last used."""
        if len(self._last_use) <= self._pages_max:
            return None
        return self._last_use.popitem(last=False)[1]


class Rivals:
    """A miniature that takes everything, and one that takes what has been used before: which would
    have found more of the pages that were asked for of late and that memory had not.

    They get a page when it is asked for, not when it leaves memory, so they are as large as the
    disk and the memory above it: a page stays findable as long as it really does.
    """

    def __init__(self, capacity_pages: int) -> None:
        self._one_in = -(-capacity_pages // MINIATURE_PAGES)
        self._pages = max(1, capacity_pages // self._one_in)
        self._all = Miniature(self._pages)
        self._choosy = Miniature(self._pages)
        self._evictions = 0  # by the one that takes everything
        self._asked = self._gained = 0.0  # `_gained`: hits that only the choosy one has had, net
        self.eviction_age_s = AverageTime(math.inf, 1 / 16)

    @property
    def choosy_wins(self) -> bool:
        """Not before the miniature that takes everything has been filled twice."""
        return self._evictions >= self._pages and self._gained >= -TOLERANCE * self._asked

    def use(self, uses: Uses, seen: SeenPages, now: float) -> None:
        """Before `seen` is told of the request. A chain from its tail, as the disk."""
        asked = gained = 0
        for keys, is_found in ((uses.computed, False), (uses.found, True)):
            for key in reversed(keys):
                if _id(key) % self._one_in:
                    continue
                in_all = self._all.use(key, now, enters=True)
                in_choosy = self._choosy.use(key, now, enters=is_found or key in seen)
                asked += 1
                if not is_found or key in uses.from_disk:
                    gained += in_choosy - in_all
        self._make_room(now)
        kept = math.exp(-asked / (MEMORY * self._pages))
        self._asked = self._asked * kept + asked
        self._gained = self._gained * kept + gained

    def _make_room(self, now: float) -> None:
        ages = []
        while (last_use := self._all.evict()) is not None:
            ages.append(now - last_use)
        while self._choosy.evict() is not None:
            pass
        if ages:
            self._evictions += len(ages)
            self.eviction_age_s.add(sum(ages) / len(ages))


class Admission:
    """`auto`: see above. `is_choosy` False leaves nothing but the budget. `memory_pages`: of the
    tier above, which pages go through before they are written."""

    def __init__(
        self,
        capacity_pages: int,
        slot_bytes: int,
        budget: WriteBudget | None = None,
        *,
        memory_pages: int = 0,
        is_choosy: bool = True,
    ) -> None:
        self._slot_bytes = slot_bytes
        self._budget = budget
        self._is_choosy = is_choosy
        self._seen = SeenPages((1 + GHOSTS_PER_PAGE) * capacity_pages if is_choosy else 0)
        self._rivals = Rivals(capacity_pages + memory_pages)
        self._reuse_gap_s = AverageTime(0.0, 1 / 16)
        self.capped = 0  # times that the budget was spent

    @property
    def reuse_gap_s(self) -> float:
        """From a page's use to the next one that needs the disk; 0 before there was one."""
        return self._reuse_gap_s.value

    @property
    def eviction_age_s(self) -> float:
        """From a page's last use to its eviction by a disk that takes everything; infinite before
        there was one."""
        return self._rivals.eviction_age_s.value

    @property
    def takes_all(self) -> bool:
        return not (self._is_choosy and self._rivals.choosy_wins)

    def admits(self, key: bytes, was_used: bool, now: float) -> bool:
        """Whether a page that leaves memory is to be written; remembers it if not."""
        if not (self.takes_all or was_used or key in self._seen):
            self._seen.add(key, now)
            return False
        if self._budget is not None and not self._budget.take(self._slot_bytes, now):
            self.capped += 1
            self._remember(key, now)
            return False
        return True

    def stored(self, key: bytes, now: float) -> None:
        """The page is on disk."""
        self._remember(key, now)

    def used(self, uses: Uses, now: float) -> None:
        """A request begins: gaps are those of pages that came from disk, and of those that would
        have, had they been there."""
        if not self._is_choosy:
            return
        self._rivals.use(uses, self._seen, now)
        gaps = []
        for key in reversed(uses.computed):
            gap = self._seen.use(key, now)
            if gap is not None:
                gaps.append(gap)
        for key in reversed(uses.found):
            gap = self._seen.use(key, now)
            if key not in uses.from_disk:
                continue
            if gap is None:
                self._seen.add(key, now)
            else:
                gaps.append(gap)
        if gaps:
            self._reuse_gap_s.add(sum(gaps) / len(gaps))

    def _remember(self, key: bytes, now: float) -> None:
        if self._is_choosy:
            self._seen.add(key, now)
