"""Other sizes of a tier, what they would find, and the size from which on more is wasted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvtier_ops.errors import BadInput
from kvtier_ops.units import parse_size

KNEE_POINTS = 0.01  # a doubling that buys less is not worth it
_POINTS_MAX = 64
_TIERS = ("l2", "l3")
_FORM = "such as `--sweep l2=16GiB..512GiB,l3=256GB..8TB`"


@dataclass(frozen=True)
class Range:
    """Sizes in doublings, the last one included."""

    low: int
    high: int

    def sizes(self) -> list[int]:
        sizes = [self.low]
        while sizes[-1] < self.high:
            sizes.append(min(self.high, 2 * sizes[-1]))
        return sizes


def parse_sweep(text: str) -> dict[str, Range]:
    """`l2=16GiB..512GiB,l3=...` -> ranges. Raises BadInput."""
    ranges: dict[str, Range] = {}
    for part in text.split(","):
        tier, _, sizes = part.strip().partition("=")
        low, dots, high = sizes.partition("..")
        if tier not in _TIERS or not dots or tier in ranges:
            raise BadInput(
                f"`{part[:60]}` is not a tier (l2 or l3, each once) and its sizes", _FORM,
                place="--sweep",
            )  # fmt: skip
        ranges[tier] = _range(low, high)
    return ranges


def _range(low: str, high: str) -> Range:
    try:
        sizes = Range(parse_size(low.strip()).bytes, parse_size(high.strip()).bytes)
    except ValueError as error:
        raise BadInput(str(error), _FORM, place="--sweep") from None
    if not 0 < sizes.low <= sizes.high:
        raise BadInput(
            f"`{low}..{high}` goes from a size above 0 to one that is not smaller", _FORM,
            place="--sweep",
        )  # fmt: skip
    if sizes.high > sizes.low << (_POINTS_MAX - 1):
        raise BadInput(f"`{low}..{high}` has too many doublings", _FORM, place="--sweep")
    return sizes


def default_sizes(planned: int, all_bytes: int) -> list[int]:
    """Doublings around the planned size, which is one of them, up to what holds everything, or
    nine; `planned` > 0."""
    upward = max(1, min(9, math.ceil(math.log2(max(1, all_bytes) / planned))))
    downward = min(-2, upward - 8)
    lower = [planned >> count for count in range(-downward, 0, -1)]
    return [size for size in lower if size] + [planned << count for count in range(upward + 1)]


def knee(rate_of: Callable[[int], float], sizes: Sequence[int]) -> int | None:
    """The least of the sizes from which on no doubling buys a point."""
    found = None
    for size in reversed(sizes):
        if rate_of(2 * size) - rate_of(size) >= KNEE_POINTS:
            break
        found = size
    return found
