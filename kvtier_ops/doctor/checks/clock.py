"""The clock: pages have ages, budgets have days, logs have times."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from kvtier_ops.doctor.check import Check, Context, Outcome, Severity

_STA_UNSYNC = 0x40  # <sys/timex.h>
_TIMEX_BYTES = 208
# Offset of `status` in struct timex: modes, offset, freq, maxerror and esterror come before.
_STATUS_AT = 40
_YEAR_MIN, _YEAR_MAX = 2026, 2060


def is_synchronised() -> bool | None:
    """What the kernel was told by whoever keeps the time; None if it cannot be asked."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: nothing is changed
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    if state < 0 or ctypes.sizeof(ctypes.c_long) != 8:
        return None
    status = int.from_bytes(buffer.raw[_STATUS_AT : _STATUS_AT + 4], "little")
    return not status & _STA_UNSYNC


def synchronised(context: Context) -> Iterator[Outcome]:
    """By NTP, PTP or the hypervisor's clock, as the kernel has been told."""
    found = is_synchronised()
    if found is None:
        return
    yield Outcome(
        ok=found,
        required="kept by NTP or PTP",
        current="synchronised" if found else "the kernel says that nobody keeps it",
        fix="`sudo timedatectl set-ntp true`, or start chronyd; in a container: on the host",
        reason=_reason(context),
    )


def _reason(context: Context) -> str:
    profile = context.profile
    if profile is not None and profile.tiers.l3.write_bytes_per_day is not None:
        return "`tiers.l3.write_bytes_per_day` counts by it"
    if profile is not None and profile.cluster.nodes > 1:
        return f"logs of {profile.cluster.nodes} nodes are read side by side"
    return "ages of pages on disk, and times in logs, go by it"


def sane(context: Context) -> Iterator[Outcome]:
    """A host without a battery starts in 1970."""
    now = datetime.fromtimestamp(time.time(), UTC)
    yield Outcome(
        ok=_YEAR_MIN <= now.year <= _YEAR_MAX,
        required=f"between {_YEAR_MIN} and {_YEAR_MAX}",
        current=f"{now:%Y-%m-%d %H:%M} UTC",
        fix='`sudo date --set "2026-12-31 23:59 UTC"`, with the right time, or an NTP service',
    )


CHECKS = (
    Check(
        "KVT-D801",
        "clock",
        "clock",
        Severity.WARNING,
        synchronised,
        passes="the kernel has been told that the clock is kept",
        why="What was written to a disk in a day, how old pages are, and what happened first on "
        "two nodes, all go by the clock. One that nobody keeps drifts by seconds a day, and jumps "
        "when somebody corrects it. Cached answers are never wrong by it. The fix starts a "
        "service that keeps the time.",
    ),
    Check(
        "KVT-D802",
        "clock",
        "date",
        Severity.WARNING,
        sane,
        passes="the year can be true",
        why="With a clock in 1970 every page on disk is from the future, certificates of a "
        "package index are not valid yet, and a day's write budget never ends. The fix sets the "
        "clock.",
    ),
)
