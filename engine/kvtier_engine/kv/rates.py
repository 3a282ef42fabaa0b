"""How fast pages are computed and loaded, measured as they are: what choosing goes by."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

LOOK_S = 0.01  # between two looks at the disk
FADES_S = 2.0  # what was measured so many seconds of work ago counts for 1/e


class Rate:
    """Units per second of work; what is recent counts more."""

    def __init__(self) -> None:
        self._units = 0.0
        self._seconds = 0.0

    def add(self, units: float, seconds: float) -> None:
        """`units` took `seconds` of work."""
        if seconds <= 0:
            return
        kept = max(0.0, 1.0 - seconds / FADES_S)
        self._units = self._units * kept + units
        self._seconds = self._seconds * kept + seconds

    @property
    def per_s(self) -> float | None:
        """None: nothing was measured yet."""
        return self._units / self._seconds if self._seconds else None


class ComputeRate:
    """Prompt tokens per second, of steps that compute many.

    A device works on after a step has been handed to it: what it has done is known when tokens
    are drawn, which it is waited for. So steps are taken together up to such a one.
    """

    def __init__(self, tokens_min: int, *, waits: bool) -> None:
        """Steps of fewer than `tokens_min` tokens of prompts are not counted: small ones are slow,
        and most of their work may be another. `waits`: every step is waited for."""
        self._rate = Rate()
        self._tokens_min = tokens_min
        self._waits = waits
        self._tokens = 0
        self._seconds = 0.0
        self._counts = True

    def step(self, tokens: int, seconds: float, *, has_drawn: bool) -> None:
        """A step with `tokens` tokens of prompts took `seconds`."""
        if not tokens and not self._tokens:
            return
        self._tokens += tokens
        self._seconds += seconds
        self._counts = self._counts and (tokens >= self._tokens_min or not tokens)
        if not has_drawn and not self._waits:
            return
        if self._counts:
            self._rate.add(self._tokens, self._seconds)
        self._tokens, self._seconds, self._counts = 0, 0.0, True

    @property
    def tokens_per_s(self) -> float | None:
        return self._rate.per_s


class Reads(Protocol):
    """What a disk has read for us, since it was opened."""

    @property
    def read_bytes(self) -> int: ...
    @property
    def reads_busy_s(self) -> float: ...


class LoadRate:
    """Bytes per second that disks give while they are asked; a disk that hangs is asked as well."""

    def __init__(self, look: Callable[[], Sequence[Reads]]) -> None:
        """`look`: the disks that are in use now."""
        self._look = look
        self._rates: list[Rate] = []
        self._before: list[tuple[int, float]] = []
        self.update()

    def update(self) -> None:
        """Takes in what was read since the last call."""
        disks = self._look()
        if len(disks) != len(self._rates):  # one has come or gone
            self._rates = [Rate() for _ in disks]
            self._before = [(0, 0.0) for _ in disks]
        for i, disk in enumerate(disks):
            read, busy_s = self._before[i]
            if disk.reads_busy_s < busy_s:  # it was opened anew
                read, busy_s = 0, 0.0
            self._rates[i].add(disk.read_bytes - read, disk.reads_busy_s - busy_s)
            self._before[i] = (disk.read_bytes, disk.reads_busy_s)

    @property
    def bytes_per_s(self) -> float | None:
        """Of all together; 0 while none is in use; None: nothing was measured yet."""
        if not self._rates:
            return 0.0
        known = [rate.per_s for rate in self._rates if rate.per_s is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class PageRates:
    """Pages per second; None: not known yet."""

    compute: float | None = None
    load: float | None = None


class Rates:
    """What the manager knows of its engine and its disk, in pages."""

    def __init__(
        self,
        compute: ComputeRate,
        *,
        page_tokens: int,
        page_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.compute = compute
        self.load: LoadRate | None = None  # as long as there is a disk
        self._page_tokens = page_tokens
        self._page_bytes = page_bytes
        self._clock = clock
        self._look_again = 0.0

    def update(self) -> None:
        """Called often; looks at the disk from time to time."""
        now = self._clock()
        if self.load is None or now < self._look_again:
            return
        self._look_again = now + LOOK_S
        self.load.update()

    def pages(self) -> PageRates:
        tokens_per_s = self.compute.tokens_per_s
        bytes_per_s = self.load.bytes_per_s if self.load is not None else None
        return PageRates(
            compute=None if tokens_per_s is None else tokens_per_s / self._page_tokens,
            load=None if bytes_per_s is None else bytes_per_s / self._page_bytes,
        )
