"""What a run has measured, left for the next `kvtier plan`."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kvtier_engine.config import RATES_FILE, EngineConfig
from kvtier_engine.kv.rates import Rates

log = logging.getLogger(__name__)


def leave_rates(config: EngineConfig, rates: Rates) -> None:
    """Writes the rates of this run, whole or not at all, each with what it was measured on. One
    that is not known leaves what an earlier run wrote. A folder that cannot be written costs
    nothing but the figures."""
    state_dir = config.state_dir
    if state_dir is None:
        return
    compute = rates.compute.tokens_per_s
    load = rates.load.bytes_per_s if rates.load is not None else None
    draft, path = state_dir / f"{RATES_FILE}.new", state_dir / RATES_FILE
    said = _earlier(path)
    if compute is not None:
        said["prefill"] = {"tokens_per_s": round(compute, 3), "when": _now(), **_device(config)}
    if load is not None:
        folders = sorted(str(each.path) for each in config.cache.l3.directories)
        said["l3_read"] = {"bytes_per_s": round(load), "when": _now(), "directories": folders}
    if not said:
        return
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(draft, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            json.dump(said, file)
        draft.replace(path)
    except OSError as error:
        log.warning("cannot leave what was measured in `%s`: %s", path, error.strerror)


def _earlier(path: Path) -> dict[str, Any]:
    """What an earlier run left; nothing if it cannot be read."""
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _device(config: EngineConfig) -> dict[str, Any]:
    """What the rate of prefill depends on."""
    return {
        "model": str(config.model.path),
        "dtype": config.model.dtype,
        "device": config.device,
        "tensor_parallel": config.parallel.tensor_parallel,
        "threads": config.parallel.threads_per_rank,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
