"""Limits of the engine's own processes: the launcher raises them in itself, and they inherit."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.units import format_bytes

NOFILE_WANTED = 1 << 16  # a connection each, and the files of L3
_INFINITY = resource.RLIM_INFINITY
_CAP_IPC_LOCK = 14  # capabilities(7): may lock memory whatever the limit
_PR_SET_THP_DISABLE, _PR_GET_THP_DISABLE = 41, 42  # prctl(2)


@dataclass(frozen=True)
class Raised:
    """One limit, before and after, in words. `error`: it stayed; `hint`: who can raise it."""

    name: str
    old: str
    new: str
    error: str = ""
    hint: str = ""


@dataclass(frozen=True)
class _Limit:
    name: str
    number: int
    wanted: int
    shown: Callable[[int], str]
    hint: str


_LIMITS = (
    _Limit(
        "memlock",
        resource.RLIMIT_MEMLOCK,
        _INFINITY,
        format_bytes,
        "`LimitMEMLOCK=infinity` in a systemd unit, `--ulimit memlock=-1` in docker",
    ),
    _Limit(
        "nofile",
        resource.RLIMIT_NOFILE,
        NOFILE_WANTED,
        lambda value: f"{value:,}",
        f"`LimitNOFILE={NOFILE_WANTED}` in a systemd unit, `--ulimit nofile={NOFILE_WANTED}`",
    ),
)


def raise_limits(*, locks_memory: bool, dry_run: bool = False) -> list[Raised]:
    """Of this process, as far as it may; limits that are high enough are not in the list.

    `locks_memory`: the engine page-locks L2, for its GPU.
    """
    wanted = _LIMITS if locks_memory and not _may_lock_any() else _LIMITS[1:]
    found = [each for limit in wanted if (each := _raise(limit, dry_run))]
    if _thp_is_off():
        if not dry_run:
            _prctl(_PR_SET_THP_DISABLE, 0)
        found.append(Raised("transparent hugepages", "forbidden (prctl)", "allowed"))
    return found


def _raise(limit: _Limit, dry_run: bool) -> Raised | None:
    """To what is wanted, or as far as the hard limit lets it."""
    soft, hard = resource.getrlimit(limit.number)
    if _at_least(soft, limit.wanted):
        return None
    old = _words(limit, soft)
    if not _at_least(hard, limit.wanted) and _set(limit, limit.wanted, soft, hard, dry_run):
        return Raised(limit.name, old, _words(limit, limit.wanted))
    most = limit.wanted if _at_least(hard, limit.wanted) else hard
    if most != soft and not dry_run:
        resource.setrlimit(limit.number, (most, hard))
    if _at_least(most, limit.wanted):
        return Raised(limit.name, old, _words(limit, most))
    what = f"the hard limit is {_words(limit, hard)}, of {_words(limit, limit.wanted)} wanted"
    return Raised(limit.name, old, _words(limit, most), what, limit.hint)


def _set(limit: _Limit, value: int, soft: int, hard: int, dry_run: bool) -> bool:
    """Raises the hard limit as well; False: this process may not."""
    try:
        resource.setrlimit(limit.number, (value, value))
    except (OSError, ValueError):
        return False
    if dry_run:
        resource.setrlimit(limit.number, (soft, hard))
    return True


def _at_least(value: int, wanted: int) -> bool:
    return value == _INFINITY or (wanted != _INFINITY and value >= wanted)


def _words(limit: _Limit, value: int) -> str:
    return "unlimited" if value == _INFINITY else limit.shown(value)


def _may_lock_any() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1)
    return False


def _thp_is_off() -> bool:
    return _prctl(_PR_GET_THP_DISABLE, 0) == 1


def _prctl(option: int, value: int) -> int:
    return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0))
