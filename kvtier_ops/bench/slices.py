"""A measurement in slices of time: how far they lie apart tells how steady it was."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

SLICES = 5


def slice_rates(ends: Iterable[tuple[float, int]], took_s: float) -> list[float]:
    """Bytes per second of each slice, from (end, bytes) of every transfer: it counts in the slice
    in which it ends."""
    moved = [0] * SLICES
    for end, size in ends:
        moved[min(int(end / took_s * SLICES), SLICES - 1)] += size
    return [size * SLICES / took_s for size in moved]


def deviation(rates: list[float]) -> float:
    """Half the range, over the median."""
    middle = statistics.median(rates)
    return (max(rates) - min(rates)) / 2 / middle if middle else 0.0
