"""What a run has measured, left for the next `kvtier plan`."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from kvtier_engine.config import RATES_FILE
from kvtier_engine.kv.rates import Rates

log = logging.getLogger(__name__)


def leave_rates(state_dir: Path | None, rates: Rates) -> None:
    """Writes the rates of this run, whole or not at all; those that are not known are left out.
    A folder that cannot be written costs nothing but the figures."""
    if state_dir is None:
        return
    compute = rates.compute.tokens_per_s
    load = rates.load.bytes_per_s if rates.load is not None else None
    known = {"prefill_tokens_per_s": compute, "l3_read_bytes_per_s": load}
    said = {name: round(rate, 3) for name, rate in known.items() if rate is not None}
    if not said:
        return
    draft, path = state_dir / f"{RATES_FILE}.new", state_dir / RATES_FILE
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        when = datetime.now(UTC).isoformat(timespec="seconds")
        with open(draft, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            json.dump({**said, "when": when}, file)
        draft.replace(path)
    except OSError as error:
        log.warning("cannot leave what was measured in `%s`: %s", path, error.strerror)
