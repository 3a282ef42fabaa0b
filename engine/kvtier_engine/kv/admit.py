"""Which pages are worth a write to the disk. Pure decisions; times are passed in.

The rule (shared/reference/traces.md, "Disk admission"): while the disk keeps pages longer than it
takes until they are used again, it takes everything; else it takes what has been used before. So
a disk that is large enough learns at once, and one that is too small is not worn by what it
would lose before anybody asks for it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

GHOSTS_PER_PAGE = 4  # ids remembered of what the disk has not, for each page that it can have
SEEN_MAX = 1 << 22  # ids in all: 48 MiB
SAMPLES = 64  # pages on disk that are watched, over the last two fills of it
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
    """When pages were last used, by 8 bytes of their keys: a table of fixed size, in buckets that
    forget their oldest entry. Forgotten at the engine's end."""

    WAYS = 8

    def __init__(self, pages: int) -> None:
        self._buckets = max(1, -(-min(pages, SEEN_MAX) // self.WAYS))
        self._ids = array("Q", bytes(8 * self._buckets * self.WAYS))
        self._times = array("f", [-math.inf]) * (self._buckets * self.WAYS)

    def add(self, key: bytes, now: float) -> None:
        begin, at = self._find(key)
        if at is None:
            times = self._times[begin : begin + self.WAYS]
            at = begin + times.index(min(times))
            self._ids[at] = _id(key)
        self._times[at] = now

    def use(self, key: bytes, now: float) -> float | None:
        """Seconds since the page was last used; None, and nothing is done, if it is not known."""
        _, at = self._find(key)
        if at is None:
            return None
        before, self._times[at] = self._times[at], now
        return max(0.0, now - before)

    def __contains__(self, key: bytes) -> bool:
        return self._find(key)[1] is not None

    def _find(self, key: bytes) -> tuple[int, int | None]:
        """(the bucket's first place, the page's place)."""
        begin = _id(key) % self._buckets * self.WAYS
        try:
            return begin, begin + self._ids[begin : begin + self.WAYS].index(_id(key))
        except ValueError:
            return begin, None


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


class Admission:
    """`auto`: see above. `is_choosy` False leaves nothing but the budget."""

    def __init__(
        self,
        capacity_pages: int,
        slot_bytes: int,
        budget: WriteBudget | None = None,
        *,
        is_choosy: bool = True,
    ) -> None:
        self._slot_bytes = slot_bytes
        self._budget = budget
        self._is_choosy = is_choosy
        self._seen = SeenPages((1 + GHOSTS_PER_PAGE) * capacity_pages if is_choosy else 0)
        self._sampled: dict[bytes, float] = {}  # when a page on disk was last used
        self._stride = max(1, 2 * capacity_pages // SAMPLES)
        self._oldest_s = 0.0  # age of the oldest sample: the disk keeps pages that long at least
        self._stored = 0
        self._reuse_gap_s = AverageTime(0.0, 1 / 16)
        self._eviction_age_s = AverageTime(math.inf, 1 / 16)
        self.capped = 0  # times that the budget was spent

    @property
    def reuse_gap_s(self) -> float:
        """From a page's use to the next one that needs the disk; 0 before there was one."""
        return self._reuse_gap_s.value

    @property
    def eviction_age_s(self) -> float:
        """From a page's last use to its eviction by the disk; infinite before there was one."""
        return self._eviction_age_s.value

    @property
    def takes_all(self) -> bool:
        kept_s = max(self.eviction_age_s, self._oldest_s)
        return not self._is_choosy or kept_s > self.reuse_gap_s

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
        self._stored += 1
        if self._stored % self._stride == 0:
            self._sampled[key] = now
            if len(self._sampled) > SAMPLES:  # the first was used again and again
                del self._sampled[next(iter(self._sampled))]

    def used(self, uses: Uses, now: float) -> None:
        """A request begins: gaps are those of pages that came from disk, and of those that would
        have, had they been there."""
        if not self._is_choosy:
            return
        gaps = []
        for key in uses.found:
            if key in self._sampled:
                self._sampled[key] = now
            gap = self._seen.use(key, now)
            if key not in uses.from_disk:
                continue
            if gap is None:
                self._seen.add(key, now)
            else:
                gaps.append(gap)
        for key in uses.computed:
            gap = self._seen.use(key, now)
            if gap is not None:
                gaps.append(gap)
        self._oldest_s = now - min(self._sampled.values(), default=now)
        if gaps:
            self._reuse_gap_s.add(sum(gaps) / len(gaps))

    def samples(self) -> list[bytes]:
        """Pages of which it is to be said whether the disk still has them (`seen_on_disk`)."""
        return list(self._sampled)

    def seen_on_disk(
        self, keys: Sequence[bytes], present: Sequence[bool], has_evicted: bool, now: float
    ) -> None:
        """Which of the samples are still there. `has_evicted`: since the last call the disk has
        evicted pages; those gone without are out of reach, and say nothing."""
        for key, is_present in zip(keys, present, strict=True):
            if is_present:
                continue
            age = now - self._sampled.pop(key)
            if has_evicted:
                self._eviction_age_s.add(age)

    def _remember(self, key: bytes, now: float) -> None:
        if self._is_choosy:
            self._seen.add(key, now)
