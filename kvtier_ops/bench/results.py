"""Where measurements are kept until the next one of the same disk: `kvtier plan` finds them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kvtier_ops.bench.disk import DiskResult, Rate
from kvtier_ops.errors import HostError
from kvtier_ops.host import FileSystem
from kvtier_ops.plan.measured import disks_file, read_object


def keep(on: FileSystem, result: DiskResult) -> Path:
    """Adds it to the file, or takes the place of an earlier one. Raises HostError."""
    path = disks_file()
    entry = {
        "read_bytes_per_s": round(result.best_read.bytes_per_s),
        "write_bytes_per_s": round(result.best_write.bytes_per_s),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "mount_point": str(on.mount_point),
        **as_json(result),
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            said = read_object(path)
            said[on.key] = entry
            draft = path.with_suffix(".new")
            draft.write_text(json.dumps(said, indent=2))
            draft.replace(path)
    except OSError as error:
        hint = "set XDG_STATE_HOME to a folder that you may write to"
        raise HostError(f"cannot keep the result in `{path}`: {error.strerror}", hint) from error
    return path


def as_json(result: DiskResult) -> dict[str, Any]:
    """For `--json`, and beside the two rates that the plan goes by."""
    return {
        "page_bytes": result.page_bytes,
        "is_direct": result.is_direct,
        "reads": [_rate(rate) for rate in result.reads],
        "writes": [_rate(rate) for rate in result.writes],
    }


def _rate(rate: Rate) -> dict[str, float]:
    return {
        "depth": rate.depth,
        "bytes_per_s": round(rate.bytes_per_s),
        "deviation": round(rate.deviation, 3),
        "p50_ms": round(rate.p50_ms, 3),
        "p99_ms": round(rate.p99_ms, 3),
    }


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
