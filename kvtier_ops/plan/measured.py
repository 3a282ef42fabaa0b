"""What an earlier run of a profile has measured: the engine leaves it in its state folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtier_engine.config import RATES_FILE

_RATE_MAX = 1e15


@dataclass(frozen=True)
class MeasuredRate:
    """A rate, and what it was measured on, as names and values."""

    per_s: float
    when: str
    on: Mapping[str, Any]

    def is_of(self, **facts: Any) -> bool:
        """True if it was measured on just that."""
        return all(self.on.get(name) == value for name, value in facts.items())


@dataclass(frozen=True)
class Measured:
    """What earlier runs left; None: nothing was measured."""

    prefill: MeasuredRate | None = None  # tokens
    l3_read: MeasuredRate | None = None  # bytes


def read_measured(state_dir: Path) -> Measured:
    """Nothing measured if there is no such file, or if it is damaged: it is a cache."""
    try:
        said = json.loads((state_dir / RATES_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return Measured()
    if not isinstance(said, dict):
        return Measured()
    return Measured(
        prefill=_rate(said.get("prefill"), "tokens_per_s"),
        l3_read=_rate(said.get("l3_read"), "bytes_per_s"),
    )


def _rate(said: Any, name: str) -> MeasuredRate | None:
    if not isinstance(said, dict):
        return None
    value, when = said.get(name), said.get("when")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < _RATE_MAX:
        return None
    day = when[:10] if isinstance(when, str) and when[:10].isprintable() else ""
    return MeasuredRate(float(value), day, said)
