"""Limits of the engine's own processes: the launcher raises them in itself, and they inherit.

Soft limits go as far as the hard ones let them; whether that is enough for a plan is what the
doctor says (KVT-D211, KVT-D212).
"""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Callable
from dataclasses import dataclass

from kvtier_ops.units import format_bytes

NOFILE_WANTED = 1 << 16  # a connection each, and the files of L3
_INFINITY = resource.RLIM_INFINITY
_PR_SET_THP_DISABLE, _PR_GET_THP_DISABLE = 41, 42  # prctl(2)


@dataclass(frozen=True)
class Raised:
    """One limit, before and after, in words."""

    name: str
    old: str
    new: str

    def describe(self) -> str:
        return f"{self.name}: {self.old} -> {self.new}"


@dataclass(frozen=True)
class _Limit:
    name: str
    number: int
    wanted: int
    shown: Callable[[int], str]

    def words(self, value: int) -> str:
        return "unlimited" if value == _INFINITY else self.shown(value)


_MEMLOCK = _Limit("memlock", resource.RLIMIT_MEMLOCK, _INFINITY, format_bytes)
_NOFILE = _Limit("nofile", resource.RLIMIT_NOFILE, NOFILE_WANTED, lambda value: f"{value:,}")


def raise_limits(*, locks_memory: bool, dry_run: bool = False) -> list[Raised]:
    """Of this process; what is high enough, or cannot be raised, is not in the list.

    `locks_memory`: the engine page-locks L2, for its GPU.
    """
    wanted = (_MEMLOCK, _NOFILE) if locks_memory else (_NOFILE,)
    found = [each for limit in wanted if (each := _raise(limit, dry_run))]
    if _prctl(_PR_GET_THP_DISABLE, 0) == 1:  # whoever started us forbade them
        if not dry_run:
            _prctl(_PR_SET_THP_DISABLE, 0)
        found.append(Raised("transparent hugepages", "forbidden (prctl)", "allowed"))
    return found


def _raise(limit: _Limit, dry_run: bool) -> Raised | None:
    soft, hard = resource.getrlimit(limit.number)
    if _at_least(soft, limit.wanted):
        return None
    for value, bound in ((limit.wanted, _larger(limit.wanted, hard)), (hard, hard)):
        try:
            resource.setrlimit(limit.number, (value, bound))
        except (OSError, ValueError):
            continue  # the hard limit needs CAP_SYS_RESOURCE
        if dry_run:
            resource.setrlimit(limit.number, (soft, hard))
        return Raised(limit.name, limit.words(soft), limit.words(value)) if value != soft else None
    return None


def _larger(one: int, other: int) -> int:
    """The larger of two limits."""
    return _INFINITY if _INFINITY in (one, other) else max(one, other)


def _at_least(value: int, wanted: int) -> bool:
    return _larger(value, wanted) == value


def _prctl(option: int, value: int) -> int:
    return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0))
