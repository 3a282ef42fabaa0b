"""`--load "2 requests/s x 12000 tokens"`: what a day brings, for the wear of disks."""

from __future__ import annotations

import re

from kvtier_ops.errors import BadInput
from kvtier_ops.plan.answers import Load
from kvtier_ops.text import printable

WHOLE = r"(?:\d{1,3}(?:,\d{3}){1,4}|\d[\d_]{0,14})"  # `12000`, `12_000` or `12,000`
_PATTERN = re.compile(
    rf"\s*({WHOLE}(?:\.\d{{1,6}})?)\s*(?:requests?|req)?\s*(?:/|per|a)\s*"
    r"(s|second|min|minute|h|hour|d|day)"
    rf"\s*(?:x|\*|of)\s*({WHOLE}(?:\.\d{{1,6}})?)\s*([kK]?)\s*(?:new\s+)?(?:tokens?)?\s*",
    re.ASCII,
)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATE_MAX = 1e12


def parse_load(text: str) -> Load:
    """Requests and the tokens of each that are computed, not found. Raises BadInput."""
    match = _PATTERN.fullmatch(text)
    shown = printable(text)[:60].strip()
    if match is None:
        raise BadInput(
            f"`{shown}` is not a load",
            'such as `--load "2 requests/s x 12000 tokens"`, or `50000 requests/day x 8k tokens`',
        )
    tokens = as_number(match[3]) * (1024 if match[4] else 1)
    rate = as_number(match[1]) / _SECONDS[match[2][0]] * tokens
    if not 0 < rate < _RATE_MAX:
        raise BadInput(f"`{shown}` is no load that a machine could have", "more than none")
    return Load(rate, f"{shown}, none found")


def as_number(text: str) -> float:
    """What `WHOLE` has found, with or without a fraction."""
    return float(text.replace(",", "").replace("_", ""))
