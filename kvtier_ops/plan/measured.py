"""What an earlier run of a profile has measured: the engine leaves it in its state folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvtier_engine.config import RATES_FILE
from kvtier_ops.plan.rates import Measured

_RATE_MAX = 1e15


def read_measured(state_dir: Path) -> Measured:
    """Nothing measured if there is no such file, or if it is damaged: it is a cache."""
    try:
        said = json.loads((state_dir / RATES_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return Measured()
    if not isinstance(said, dict):
        return Measured()
    when = said.get("when")
    return Measured(
        prefill_tokens_per_s=_rate(said.get("prefill_tokens_per_s")),
        disk_read_bytes_per_s=_rate(said.get("l3_read_bytes_per_s")),
        when=when[:10] if isinstance(when, str) and when[:10].isprintable() else "",
    )


def _rate(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < _RATE_MAX else None
