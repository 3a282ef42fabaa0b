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
from kvtier_ops.bench.memory import CopyRate, MemoryResult, TouchRate
from kvtier_ops.errors import HostError
from kvtier_ops.host import FileSystem, Host
from kvtier_ops.plan.measured import disks_file, memory_file, memory_key, read_object


def check_can_keep(path: Path) -> None:
    """Before a minute is spent on measuring: raises HostError where nothing could be kept."""
    with _kept_at(path) as draft:
        draft.touch()
        draft.unlink()


def keep(on: FileSystem, result: DiskResult) -> Path:
    """Adds it to the file, or takes the place of an earlier one. Raises HostError."""
    entry = {
        "read_bytes_per_s": round(result.best_read.bytes_per_s),
        "write_bytes_per_s": round(result.best_write.bytes_per_s),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "mount_point": str(on.mount_point),
        **as_json(result),
    }
    return _keep(disks_file(), on.key, entry)


def keep_memory(host: Host, result: MemoryResult) -> Path:
    """The same, of the host's memory. Raises HostError."""
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        **_summary(result),
        **memory_as_json(result),
    }
    return _keep(memory_file(), memory_key(host), entry)


def _summary(result: MemoryResult) -> dict[str, Any]:
    """What the plan goes by: of copies near to the CPUs the slowest node's one thread, and all
    nodes together; of the first touch one thread, and all nodes as if each were as the one."""
    near = [rate for rate in result.copies if rate.cpu_node == rate.memory_node] or result.copies
    alone = [rate.bytes_per_s for rate in near if rate.threads == 1]
    most: dict[int, float] = {}
    for rate in near:
        most[rate.cpu_node] = max(rate.bytes_per_s, most.get(rate.cpu_node, 0.0))
    touch = {
        kind: {
            "thread_bytes_per_s": round(rates[0].bytes_per_s),
            "all_bytes_per_s": round(max(rate.bytes_per_s for rate in rates) * len(most)),
        }
        for kind in {rate.hugepages: None for rate in result.touches}
        if (rates := [rate for rate in result.touches if rate.hugepages == kind])
    }
    return {
        "copy": {
            "thread_bytes_per_s": round(min(alone)),
            "all_bytes_per_s": round(sum(most.values())),
        },
        "first_touch": touch,
    }


def memory_as_json(result: MemoryResult) -> dict[str, Any]:
    """For `--json`, and beside what the plan goes by."""
    copies = [
        {"cpu_node": rate.cpu_node, "memory_node": rate.memory_node, **_common(rate)}
        for rate in result.copies
    ]
    touches = [{"hugepages": rate.hugepages, **_common(rate)} for rate in result.touches]
    return {"buffer_bytes": result.buffer_bytes, "copies": copies, "first_touches": touches}


def _common(rate: CopyRate | TouchRate) -> dict[str, float]:
    return {
        "threads": rate.threads,
        "bytes_per_s": round(rate.bytes_per_s),
        "deviation": round(rate.deviation, 3),
    }


def _keep(path: Path, key: str, entry: dict[str, Any]) -> Path:
    with _kept_at(path) as draft:
        said = read_object(path)
        said[key] = entry
        draft.write_text(json.dumps(said, indent=2))
        draft.replace(path)
    return path


@contextmanager
def _kept_at(path: Path) -> Iterator[Path]:
    """A draft for the file, which nobody else changes meanwhile. Raises HostError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            yield path.with_suffix(".new")
    except OSError as error:
        hint = "set XDG_STATE_HOME to a folder that you may write to"
        raise HostError(f"cannot keep the result in `{path}`: {error.strerror}", hint) from error


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
