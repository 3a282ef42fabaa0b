"""Checks of tiers that are out of use, and of what went wrong in them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvtier_ops.doctor.check import Outcome, Severity
from kvtier_ops.doctor.live.check import Live, LiveCheck, counted, lasted
from kvtier_ops.text import shortened
from kvtier_ops.units import format_bytes

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

REASON_CHARS_MAX = 300
# What the engine was started with, by tier: 0 or absent is a tier that nobody asked for.
_ASKED_FOR = {"l2": "l2_pages", "l3": "l3_directories"}
_DISK_ERRORS = {
    "l3_io_errors_total": "reads or writes that failed",
    "l3_timed_out_reads_total": "reads that took too long",
    "l3_dropped_writes_total": "writes that were dropped",
    "refused_pages_total": "pages that the disk did not take",
}


def tier_up(live: Live) -> Iterator[Outcome]:
    """Without a tier the engine goes on, and computes what it would have found there."""
    for tier, name in _ASKED_FOR.items():
        up = live.span.gauge("tier_up", tier=tier)
        if up is None or (not up and not live.setting(name)):
            continue
        if up:
            yield Outcome(True, "in use", "in use", subject=tier)
            continue
        reasons = [_why(sample) for sample in live.span.now.of("l3_out_of_use_since_seconds")]
        why = "; ".join(reasons) if tier == "l3" else ""
        yield Outcome(
            ok=False,
            required="in use, as the engine was started with it",
            current=f"out of use{f': {why}' if why else ''}",
            fix=f"the engine's log says why: search it for `{tier.upper()} is out of use`; when "
            f"that is mended, or if it was detached on purpose, `kvtier cache attach {tier}`",
            subject=tier,
        )


def _why(sample: Sample) -> str:
    since = lasted(max(0.0, time.time() - sample.value))
    reason = shortened(sample.labels.get("reason", ""), REASON_CHARS_MAX)
    return f"{reason}, for {since}"


def directories(live: Live) -> Iterator[Outcome]:
    """One of several disks that fails takes its pages with it; the others go on."""
    now = live.span.now
    dropped = ["not all writes were taken, see KVT-L502"] if _dropped(live) else []
    for sample in now.of("l3_directory_up"):
        path = sample.labels.get("directory", "")
        reads, writes = bool(sample.value), bool(now.get("l3_directory_writable", directory=path))
        reasons = [_why(each) for each in now.of("l3_out_of_use_since_seconds", directory=path)]
        shown = shlex.quote(path)
        state = {
            (True, True): "read and written",
            (True, False): "read, and not written",
            (False, True): "out of use",
            (False, False): "out of use",
        }[reads, writes]
        yield Outcome(
            ok=reads and writes,
            required="read and written: what lies on it is computed again meanwhile",
            current="; ".join([state, *reasons, *(dropped if reads and writes else [])]),
            fix=f"see the disk (`dmesg`, `df -h {shown}`, `kvtier store stat {shown}`); the engine "
            "tries it again by itself",
            subject=f"`{path}`",
        )


def direct_io(live: Live) -> Iterator[Outcome]:
    """Without O_DIRECT, L3 goes through the page cache, at the expense of others, and takes memory
    that the plan counts as free."""
    for sample in live.span.now.of("l3_directory_direct_io"):
        yield Outcome(
            ok=bool(sample.value),
            required="O_DIRECT: else L3 competes for the page cache",
            current="O_DIRECT" if sample.value else "through the page cache",
            fix="name a directory on ext4 or XFS in `tiers.l3.directories`",
            subject=f"`{sample.labels.get('directory', '')}`",
        )


def memory_of_l2(live: Live) -> Iterator[Outcome]:
    """L2 starts with what the host has, and says so only here and in the log."""
    span = live.span
    target, mapped = span.gauge("l2_target_bytes"), span.gauge("l2_mapped_bytes")
    if target is None or mapped is None:
        return
    backing = next(
        (s.labels.get("backing", "") for s in span.now.of("l2_backing") if s.value), "unknown"
    )
    wrong = []
    if target < mapped and not live.admin.get("under_way"):
        wrong.append(f"{format_bytes(int(target))} of {format_bytes(int(mapped))} are used")
    if span.gauge("l2_populating_failed"):
        wrong.append("populating stopped: memory was short")
    if span.gauge("l2_numa_bound") == 0:
        wrong.append("it is not bound to its NUMA nodes")
    wanted = live.config.get("l2_hugepages", "")
    expected = {"2MiB": "huge_2m", "1GiB": "huge_1g", "transparent": "transparent"}.get(wanted)
    if expected is not None and backing != expected:
        wrong.append(f"it lies in pages of kind `{backing}`, not `{wanted}`")
    yield Outcome(
        ok=not wrong,
        required="all of it, in the pages and on the nodes that were asked for",
        current="; ".join(wrong) or f"{format_bytes(int(mapped))}, `{backing}`",
        fix="`kvtier doctor PROFILE` says what the host lacks; mend it and launch again (after "
        "`kvtier cache resize l2`, L2 is smaller on purpose)",
    )


def bad_pages(live: Live) -> Iterator[Outcome]:
    """Bytes that changed on disk or in memory. Nobody was served them: they became misses."""
    now = live.span.now
    causes = {
        f"{s.labels.get('tier', '')} {s.labels.get('cause', '')}": s.value
        for s in now.of("corrupt_pages_total")
        if s.value
    }
    added = live.span.added("corrupt_pages_total")
    shown = ", ".join(f"{name}: {counted(count)}" for name, count in sorted(causes.items()))
    if causes and live.span.before is not None:
        shown += f" ({counted(added)} {live.span.name})"
    yield Outcome(
        ok=not causes,
        required="none since the start: bytes do not change by themselves",
        current=shown or "none",
        fix="test the memory and the disk (`smartctl -a`, `kvtier store verify DIR` while nothing "
        "uses it); after a power cut a few are usual",
    )


def disk_errors(live: Live) -> Iterator[Outcome]:
    """What the disk refused, failed or did not answer; by directory where that is known."""
    now = live.span.now
    if now.get("l3_io_errors_total") is None:
        return
    found = [
        f"{counted(count)} {name}"
        for metric, name in _DISK_ERRORS.items()
        if (count := now.get(metric) or 0.0)
    ]
    places = [
        s.labels.get("directory", "") for s in now.of("l3_directory_io_errors_total") if s.value
    ]
    shown = ", ".join(found)
    if places:
        shown += f" (on {', '.join(f'`{place}`' for place in sorted(places))})"
    yield Outcome(
        ok=not found,
        required="none since the start",
        current=shown or "none",
        fix="; ".join(_mend_disk(live)),
    )


def _mend_disk(live: Live) -> Iterator[str]:
    """No metric tells why a write was dropped: a full disk is no error of it."""
    now = live.span.now
    names = [s.labels.get("directory", "") for s in now.of("l3_directory_up")] or ["DIR"]
    folders = " ".join(shlex.quote(name) for name in names)
    if any(now.get(name) for name in ("l3_io_errors_total", "l3_timed_out_reads_total")):
        yield "see `dmesg` and the engine's log for the disk"
    if _dropped(live):
        yield (
            f"`df -h {folders}` and `df -i {folders}` tell whether the disk is full, or has less "
            "free than `tiers.l3.reserve`: free space there; if it has enough, it writes slower "
            "than pages come (KVT-L304); the engine's log says since when"
        )


def _dropped(live: Live) -> float:
    """Writes that L3 did not take, since the start."""
    names = ("l3_dropped_writes_total", "refused_pages_total")
    return max(live.span.now.get(name) or 0.0 for name in names)


def bookkeeping(live: Live) -> Iterator[Outcome]:
    """A page lost or counted twice is a fault of kvtier: answers stay right, since pages are
    checked when they are used, but room is lost. Please report it."""
    count = live.span.gauge("bookkeeping_errors_total")
    if count is None:
        return
    yield Outcome(
        ok=not count,
        required="none: pages are neither lost nor counted twice",
        current=counted(count) if count else "none",
        fix="please report it, with what `kvtier doctor bundle` collects",
    )


FAILURE, WARNING = Severity.FAILURE, Severity.WARNING
CHECKS = (
    LiveCheck(
        "KVT-L401",
        "tiers",
        "tier",
        FAILURE,
        tier_up,
        passes="L2 and L3 are in use, if the engine was started with them; of a disk, why and "
        "since when",
    ),
    LiveCheck(
        "KVT-L402",
        "tiers",
        "directory",
        WARNING,
        directories,
        passes="each directory of L3 is read and written",
    ),
    LiveCheck(
        "KVT-L403",
        "tiers",
        "direct I/O in",
        WARNING,
        direct_io,
        passes="each directory of L3 is used with O_DIRECT",
    ),
    LiveCheck(
        "KVT-L404",
        "tiers",
        "memory of L2",
        WARNING,
        memory_of_l2,
        passes="L2 has all of its memory, in the pages and on the nodes that were asked for",
    ),
    LiveCheck(
        "KVT-L501",
        "errors",
        "bad pages",
        WARNING,
        bad_pages,
        passes="no page was bad, in memory or on disk",
    ),
    LiveCheck(
        "KVT-L502",
        "errors",
        "disk errors",
        WARNING,
        disk_errors,
        passes="no read or write of L3 failed, was late, dropped or refused",
    ),
    LiveCheck(
        "KVT-L503",
        "errors",
        "bookkeeping",
        FAILURE,
        bookkeeping,
        passes="no page was lost or counted twice",
    ),
)
