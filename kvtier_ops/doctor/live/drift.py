"""Checks of what runs against what the profile says, and against what was started."""

from __future__ import annotations

from collections.abc import Iterator

from kvtier_ops.doctor.check import Outcome, Severity
from kvtier_ops.doctor.live.check import Live, LiveCheck, counted
from kvtier_ops.profile.schema import Profile
from kvtier_ops.text import shortened
from kvtier_ops.units import UNITS, Size, format_bytes

SHOWN_CHARS_MAX = 100
# A tier holds whole pages, and L2 a table beside them: so much less than was asked for is no drift.
SIZE_TOLERANCE = 0.03
SIZE_TOLERANCE_BYTES = 4 * UNITS["MiB"]
_RELAUNCH = "launch the profile again, or change it to what is meant"


def drift(live: Live) -> Iterator[Outcome]:
    """A profile that was changed after the launch is not what runs; the next launch will differ."""
    if live.profile is None:
        return
    if not live.config:
        yield Outcome(
            False,
            "the engine says how it was started",
            "it does not: it is older than this kvtier",
            _RELAUNCH,
        )
        return
    wrong = [*_settings(live, live.profile), *_sizes(live, live.profile)]
    for field, wanted, found in wrong:
        yield Outcome(False, f"`{wanted}`, by the profile", f"`{found}`", _RELAUNCH, f"`{field}`")
    if not wrong:
        yield Outcome(True, "what the profile says", "the profile's settings and sizes")


def _settings(live: Live, profile: Profile) -> Iterator[tuple[str, str, str]]:
    """(field, as the profile says, as it runs); what the profile leaves to the plan is left out."""
    engine, tiers = profile.engine, profile.tiers
    asked: dict[str, tuple[str, object]] = {
        "model.served_name": ("served_name", profile.model.served_name),
        "model.dtype": ("dtype", profile.model.dtype),
        "engine.device": ("device", engine.device),
        "engine.attention": ("attention", engine.attention),
        "engine.tensor_parallel": ("tensor_parallel", engine.tensor_parallel),
        "engine.threads": ("threads", engine.threads),
        "engine.max_context_tokens": ("max_context_tokens", engine.max_context_tokens),
        "engine.max_running": ("max_running", engine.max_running),
        "engine.max_queued": ("max_queued", engine.max_queued),
        "engine.max_step_tokens": ("max_step_tokens", engine.max_step_tokens),
        "tiers.page_tokens": ("page_tokens", tiers.page_tokens),
        "tiers.prefix_reuse": ("prefix_reuse", tiers.prefix_reuse),
        "tiers.l1.eviction": ("l1_eviction", tiers.l1.eviction),
        "tiers.l2.eviction": ("l2_eviction", tiers.l2.eviction),
        "tiers.l2.hugepages": ("l2_hugepages", tiers.l2.hugepages),
        "tiers.l3.eviction": ("l3_eviction", tiers.l3.eviction),
        "tiers.l3.write": ("l3_write", tiers.l3.write),
        "tiers.l3.admission": ("l3_admission", tiers.l3.admission),
        "tiers.l3.compute_while_loading": (
            "l3_compute_while_loading",
            tiers.l3.compute_while_loading,
        ),
    }
    config = live.config
    for field, (label, value) in asked.items():
        wanted = str(value).lower() if isinstance(value, bool) else str(value)
        if wanted == "auto" and field != "engine.attention":
            continue
        if (found := config.get(label)) is not None and found != wanted:
            yield field, wanted, shortened(found, SHOWN_CHARS_MAX)


def _sizes(live: Live, profile: Profile) -> Iterator[tuple[str, str, str]]:
    """Sizes that the profile names, against what there is now."""
    for tier in ("l1", "l2", "l3"):
        size, there = _named_size(profile, tier), _bytes_of(live, tier)
        if size is not None and not _agrees(live, size, there):
            yield f"tiers.{tier}.size", format_bytes(size), format_bytes(there)


def _named_size(profile: Profile, tier: str) -> int | None:
    """Of the tier in bytes; None where the profile leaves it to the plan."""
    tiers = profile.tiers
    if tier == "l3" and not tiers.l3.directories:
        return 0
    if tier == "l1" and isinstance(tiers.l1.max_tokens, int):
        return None
    size = {"l1": tiers.l1.size, "l2": tiers.l2.size, "l3": tiers.l3.size}[tier]
    return size.bytes if isinstance(size, Size) else None


def _bytes_of(live: Live, tier: str) -> int:
    """That the tier has now."""
    if tier == "l3":
        return int(live.span.gauge("l3_capacity_bytes") or 0)
    pages = live.span.gauge("pages_capacity", tier=tier) or 0.0
    return int(pages * (live.setting("page_bytes") or 0))


def _agrees(live: Live, wanted: int, there: int) -> bool:
    """A tier is as large as it was meant to be, less what does not fill a page."""
    page_bytes = live.setting("page_bytes") or 0
    slack = max(SIZE_TOLERANCE * wanted, SIZE_TOLERANCE_BYTES, 2 * page_bytes)
    return wanted - slack <= there <= wanted


def resized(live: Live) -> Iterator[Outcome]:
    """`kvtier cache resize` holds until the engine ends; then the profile's size is back. The fix
    writes the new size into the profile; one that has it already, as after `kvtier reload`, agrees.
    """
    for tier in ("l1", "l2"):
        started, now = live.setting(f"{tier}_pages"), live.span.gauge("pages_capacity", tier=tier)
        if not started or now is None:
            continue
        named = _named_size(live.profile, tier) if live.profile is not None else None
        is_meant = named is not None and _agrees(live, named, _bytes_of(live, tier))
        current = f"{counted(now)} pages"
        if is_meant and now != started:
            current += f", as the profile says; {counted(started)} when it was started"
        yield Outcome(
            ok=now == started or is_meant,
            required=f"the {counted(started)} pages that it was started with",
            current=current,
            fix=f"if this is to last, write it into `tiers.{tier}.size`; if it is not meant, "
            f"`kvtier cache resize {tier} SIZE` (or memory was short at the start: see KVT-L404)",
            subject=tier,
        )


def version(live: Live) -> Iterator[Outcome]:
    """An upgrade is not in effect before the engine is launched again: the one that runs is of the
    version that it was started with."""
    found = live.config.get("version", "")
    if not found or not live.version:
        return
    yield Outcome(
        ok=found == live.version,
        required=f"{live.version}, as this `kvtier`",
        current=shortened(found, SHOWN_CHARS_MAX),
        fix="launch it again with this kvtier, or ask with the one that launched it",
    )


CHECKS = (
    LiveCheck(
        "KVT-L601",
        "drift",
        "what runs",
        Severity.WARNING,
        drift,
        passes="what runs is what the profile says",
    ),
    LiveCheck(
        "KVT-L602",
        "drift",
        "size of",
        Severity.WARNING,
        resized,
        passes="L1 and L2 have the size that they were started with, or that the profile says now",
    ),
    LiveCheck(
        "KVT-L603",
        "drift",
        "version of the engine",
        Severity.WARNING,
        version,
        passes="the engine is of this kvtier's version",
    ),
)
