"""Checks of what L3 costs its disks, and of what it gives back."""

from __future__ import annotations

from collections.abc import Iterator

from kvtier_ops.doctor.check import Outcome, Severity
from kvtier_ops.doctor.live.check import Live, LiveCheck, counted
from kvtier_ops.units import format_bytes, format_decimal

AMPLIFICATION_MAX = 1.25
WRITTEN_MIN_BYTES = 16 << 20  # less tells nothing
DRIVE_WRITES_PER_DAY = 1.0  # what drives are rated for, if the profile does not say
GIVEN_BACK_MIN = 1.0
BUSY_MAX = 0.9
BUSY_SECONDS_MIN = 1.0
LESS = (
    "set `tiers.l3.admission: auto`, `tiers.l3.admit_sightings: 2` or "
    "`tiers.l3.write_bytes_per_day`, or make `tiers.l2.size` larger, so that fewer pages leave it"
)


def amplification(live: Live) -> Iterator[Outcome]:
    """What the disk writes for each byte of pages: headers, journal and whole blocks. Small pages
    pay the most, and a drive wears by what is written."""
    span = live.span
    written, name = span.added("l3_written_bytes_total"), span.name
    disk = span.added("l3_disk_written_bytes_total")
    if written < WRITTEN_MIN_BYTES:
        written = span.gauge("l3_lifetime_written_bytes") or 0.0
        disk = span.gauge("l3_lifetime_disk_written_bytes") or 0.0
        name = "in the directories' lives"
    if written < WRITTEN_MIN_BYTES:
        return
    page = live.setting("page_bytes")
    size = f"pages of {format_bytes(page)}" if page else "pages"
    yield Outcome(
        ok=disk <= AMPLIFICATION_MAX * written,
        required=f"{AMPLIFICATION_MAX:g} at most: headers and whole blocks are small beside a page",
        current=f"{disk / written:.2f} bytes written for each byte of pages {name} "
        f"({format_decimal(disk)} for {format_decimal(written)})",
        fix=f"make pages larger (`tiers.page_tokens`): {size} leave much of their blocks empty; "
        "pages of another size are not found again",
    )


def wear(live: Live) -> Iterator[Outcome]:
    """Drives are rated for so many writes of their whole size a day, over their life."""
    span = live.span
    last_day = span.gauge("l3_disk_written_bytes_last_day")
    capacity = span.gauge("l3_capacity_bytes")
    if last_day is None or not capacity:
        return
    rated, whose = DRIVE_WRITES_PER_DAY, "what most drives are rated for"
    if live.profile is not None:
        rated, whose = live.profile.tiers.l3.drive_writes_per_day, "`tiers.l3.drive_writes_per_day`"
    yield Outcome(
        ok=last_day <= rated * capacity,
        required=f"{rated:g} times its size a day at most, {whose}; the drive may be larger than "
        "L3, and stand more",
        current=f"{format_decimal(last_day)} written in 24 hours, {last_day / capacity:.2f} times "
        f"L3's {format_decimal(capacity)}",
        fix=LESS,
    )


def given_back(live: Live) -> Iterator[Outcome]:
    """A disk that writes more than is ever read from it wears for nothing. The fix admits only what
    is used more than once, or makes L3 larger, so that pages live until they are."""
    span = live.span
    written = span.gauge("l3_lifetime_disk_written_bytes")
    hits = span.gauge("l3_lifetime_hit_bytes")
    capacity = span.gauge("l3_capacity_bytes")
    if written is None or hits is None or not capacity or written < capacity:
        return  # before it has been filled once, there is little to find
    yield Outcome(
        ok=hits >= GIVEN_BACK_MIN * written,
        required=f"{GIVEN_BACK_MIN:g} or more: else it writes more than it gives back",
        current=f"{hits / written:.2f} bytes found for each byte written, in the directories' "
        f"lives ({format_decimal(hits)} for {format_decimal(written)})",
        fix=f"{LESS}; if `tiers.l3.size` is far below what is asked for, make that larger",
    )


def busy(live: Live) -> Iterator[Outcome]:
    """A disk that has no free moment makes requests wait, and the engine computes what it would
    rather have read. The fix is another directory on another drive."""
    span = live.span
    if span.seconds is None or span.seconds < BUSY_SECONDS_MIN:
        return
    for sample in span.now.of("l3_directory_up"):
        path = sample.labels.get("directory", "")
        parts = {
            way: span.added(f"l3_directory_{way}_busy_seconds_total", directory=path) / span.seconds
            for way in ("reads", "writes")
        }
        queued = {way: span.gauge(f"l3_{way}_queued") or 0.0 for way in parts}
        yield Outcome(
            ok=parts["reads"] <= BUSY_MAX,
            required=f"reads for {BUSY_MAX:.0%} of the time at most: else requests wait for it",
            current=f"reading {min(1.0, parts['reads']):.0%} and writing "
            f"{min(1.0, parts['writes']):.0%} of the time; {counted(queued['reads'])} reads and "
            f"{counted(queued['writes'])} writes are queued in L3",
            fix="give L3 another disk (`tiers.l3.directories`), or L2 more memory",
            subject=f"`{path}`",
        )


WARNING = Severity.WARNING
CHECKS = (
    LiveCheck(
        "KVT-L301",
        "l3",
        "write amplification",
        WARNING,
        amplification,
        passes="the disk writes 1.25 bytes at most for each byte of pages",
    ),
    LiveCheck(
        "KVT-L302",
        "l3",
        "drive writes per day",
        WARNING,
        wear,
        passes="the disk writes no more a day than `tiers.l3.drive_writes_per_day` times L3's "
        "size (1, without a profile)",
    ),
    LiveCheck(
        "KVT-L303",
        "l3",
        "what L3 gives back",
        WARNING,
        given_back,
        passes="L3, once filled, has given back what it has written",
    ),
    LiveCheck(
        "KVT-L304",
        "l3",
        "load of",
        WARNING,
        busy,
        passes="each disk reads for 90 % of the time at most",
    ),
)
