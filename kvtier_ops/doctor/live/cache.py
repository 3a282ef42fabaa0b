"""Checks of what the tiers find, and of how long pages stay in them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kvtier_ops.doctor.check import Outcome, Severity
from kvtier_ops.doctor.live.check import Live, LiveCheck, counted, lasted

TIERS = ("l1", "l2", "l3")
PAGE_TOKENS = 64  # of an engine that does not say
HIT_RATE_MIN = 0.05
PAGES_MIN = 20  # fewer tell nothing
RETURNED_MAX = 0.2  # of as many pages as are evicted
RETURNED_MAX_ABOVE = 0.5  # where a tier below has them still
_BELOW = {"l1": "l2", "l2": "l3"}
LOST_MAX = 0.01
PREEMPTED_MAX = 0.01
GROWTH_MAX = 10.0  # a tier that would have to be larger than this is not advised


def hit_rate(live: Live) -> Iterator[Outcome]:
    """A cache in which nothing is found costs memory, copies and writes for nothing. Prompts that
    begin differently, such as with a date, or tenants that share nothing, are the usual reasons."""
    span = live.span
    tokens = span.added("prompt_tokens_total")
    page_tokens = live.setting("page_tokens") or PAGE_TOKENS
    required = f"{HIT_RATE_MIN:.0%} of prompt tokens or more: below, the cache is work for nothing"
    if tokens < PAGES_MIN * page_tokens:
        asked = f"{counted(tokens)} prompt tokens {span.name}: too few to tell"
        yield Outcome(True, required, asked)
        return
    hits = {tier: span.added("hit_tokens_total", tier=tier) for tier in TIERS}
    rate = sum(hits.values()) / tokens
    parts = ", ".join(f"{tier} {hits[tier] / tokens:.1%}" for tier in TIERS)
    current = f"{rate:.1%} of {counted(tokens)} prompt tokens {span.name} ({parts})"
    yield Outcome(rate >= HIT_RATE_MIN, required, current, _more_hits(live, page_tokens))


def _more_hits(live: Live, page_tokens: int) -> str:
    if live.config.get("prefix_reuse") == "false":
        return "the profile says `tiers.prefix_reuse: false`: set it to true"
    if any(_returned(live, tier) > RETURNED_MAX for tier in ("l1", "l2")):
        return (
            "what was evicted is asked for again: make the last tier larger (`tiers.l2.size`), or "
            "give it one below (`tiers.l3.directories`)"
        )
    return (
        "prompts do not begin alike: put what changes (time, names, questions) behind what stays "
        "(instructions, documents), use one `cache_salt` for those that may share, and mind that "
        f"less than a page of {page_tokens} tokens is never found"
    )


def _returned(live: Live, tier: str) -> float:
    """Pages that came back, for each one that was evicted."""
    gone = live.span.added("evicted_pages_total", tier=tier)
    if gone < PAGES_MIN:
        return 0.0
    return live.span.added("returned_pages_total", tier=tier) / gone


def thrash(live: Live) -> Iterator[Outcome]:
    """A tier that evicts pages sooner than they are used again does the work of a cache without
    being one: every turn of a conversation finds its pages just gone."""
    span = live.span
    for tier in ("l1", "l2"):
        if span.gauge("pages_capacity", tier=tier) in (None, 0.0):
            continue
        gone = span.added("evicted_pages_total", tier=tier)
        if gone < PAGES_MIN:
            few = f"{counted(gone)} pages evicted {span.name}"
            yield Outcome(True, "pages stay until they are used again", few, subject=tier)
            continue
        has_below = span.gauge("tier_up", tier=_BELOW[tier]) == 1
        back = span.added("returned_pages_total", tier=tier)
        age_s = span.added("evicted_age_seconds_total", tier=tier) / gone
        current = f"{counted(gone)} pages evicted {span.name}, {lasted(age_s)} after their last use"
        required, fix = "pages stay until they are used again", ""
        if back:
            away_s = span.added("returned_after_seconds_total", tier=tier) / back
            current += f"; {counted(back)} came back, {lasted(away_s)} after it"
            required = f"pages stay for the {lasted(away_s)} after which they are used again"
            fix = _larger(tier, age_s, away_s, has_below=has_below)
        most = RETURNED_MAX_ABOVE if has_below else RETURNED_MAX
        yield Outcome(back / gone <= most, required, current, fix, tier)


def _larger(tier: str, age_s: float, away_s: float, *, has_below: bool) -> str:
    """Pages stay as long as it takes to fill the tier: twice the tier, twice the time."""
    factor = away_s / age_s if age_s > 0 else math.inf
    below = "`tiers.l2.size`" if tier == "l1" else "`tiers.l3.directories`"
    ways = []
    if factor <= GROWTH_MAX:
        ways.append(
            f"make `tiers.{tier}.size` {max(1.2, factor):.1f} times as large (`kvtier cache resize "
            f"{tier} SIZE` tries it)"
        )
    if not has_below:
        ways.append(f"give it a tier below that catches them ({below})")
    ways.append(f"set `tiers.{tier}.eviction: arc` if a few pages are used often")
    return "; or ".join(ways)


def thrash_of_disk(live: Live) -> Iterator[Outcome]:
    """An L3 that is too small is written all day and seldom read: pages leave it sooner than they
    are asked for again. The fix makes it larger, or admits less."""
    age_s, gap_s = (
        live.span.gauge(name) for name in ("l3_eviction_age_seconds", "l3_reuse_gap_seconds")
    )
    if age_s is None or gap_s is None:
        return  # no L3, or one that takes everything and so keeps no such figures
    if not math.isfinite(age_s):
        current = "it is not full yet"
    else:
        current = f"pages would stay {lasted(age_s)}"
    required = "pages stay until they are used again"
    if gap_s > 0:
        required = f"pages stay for the {lasted(gap_s)} after which they are used again"
    yield Outcome(
        ok=gap_s <= age_s,
        required=required,
        current=current,
        fix="make `tiers.l3.size` larger, or leave `tiers.l3.admission: auto`, which spares the "
        "disk meanwhile",
        subject="l3",
    )


def load_or_compute(live: Live) -> Iterator[Outcome]:
    """Pages that come from the disk more slowly than they are computed are not worth a disk."""
    span = live.span
    compute = span.gauge("prefill_tokens_per_second")
    load = span.gauge("l3_read_bytes_per_second")
    page_bytes, page_tokens = live.setting("page_bytes"), live.setting("page_tokens")
    if not compute or not load or not page_bytes or not page_tokens:
        return
    rate = load / (page_bytes / page_tokens)
    computed = span.added("computed_instead_of_loaded_pages_total")
    current = f"L3 gives {counted(rate)} tokens/s"
    if computed:
        current += f"; {counted(computed)} of its pages were computed instead {span.name}"
    yield Outcome(
        ok=rate >= compute,
        required=f"more than the {counted(compute)} tokens/s that prefill computes",
        current=current,
        fix="give L3 a faster disk or more of them (`kvtier bench disk DIR` measures one); until "
        "then the engine computes what it would wait for, and L3 pays only for long prompts",
    )


def lost_to_disk(live: Live) -> Iterator[Outcome]:
    """Pages that L2 evicts before L3 could take them are gone, and are computed again when they are
    asked for. The fix is a faster disk, a larger L2, or fewer writes."""
    span = live.span
    gone = span.added("evicted_pages_total", tier="l2")
    if span.gauge("tier_up", tier="l3") != 1 or gone < PAGES_MIN:
        return
    lost = span.added("unsaved_pages_total")
    yield Outcome(
        ok=lost <= LOST_MAX * gone,
        required=f"{LOST_MAX:.0%} at most: L3 is there to catch them",
        current=f"{counted(lost)} of {counted(gone)} pages that L2 evicted {span.name} were lost",
        fix="give L3 a disk that writes faster, or L2 more memory (`tiers.l2.size`)",
    )


def preempted(live: Live) -> Iterator[Outcome]:
    """A request that is put back loses its place, and often has to be computed again."""
    span = live.span
    requests, back = span.added("requests_total"), span.added("preemptions_total")
    if not requests and not back:
        return
    yield Outcome(
        ok=back <= PREEMPTED_MAX * requests,
        required=f"{PREEMPTED_MAX:.0%} of requests at most: each is computed again in part",
        current=f"{counted(back)} times {span.name}, of {counted(requests)} requests",
        fix="make `tiers.l1.size` larger, or `engine.max_running` smaller: L1 holds too few tokens "
        "for so many requests at the same time",
    )


def pins(live: Live) -> Iterator[Outcome]:
    """Beyond a quarter of L2, pins are refused, so that what is in use can still be kept. The fix
    lets some pins go, or makes L2 larger."""
    held = live.span.gauge("hint_pinned_pages")
    most = live.span.gauge("hint_pinned_pages_max")
    if held is None or not most:
        return
    yield Outcome(
        ok=held < most,
        required="fewer than a quarter of L2: further pins are refused",
        current=f"{counted(held)} of {counted(most)} pages",
        fix="`kvtier cache unpin --all`, or make `tiers.l2.size` larger",
    )


WARNING = Severity.WARNING
CHECKS = (
    LiveCheck(
        "KVT-L201",
        "cache",
        "hit rate",
        WARNING,
        hit_rate,
        passes="5 % of prompt tokens or more are found in some tier",
    ),
    LiveCheck(
        "KVT-L202",
        "cache",
        "eviction age of",
        WARNING,
        thrash,
        passes="of L1 and L2: as many pages as a fifth of those evicted come back, at most "
        "(half, where a tier below has them)",
    ),
    LiveCheck(
        "KVT-L203",
        "cache",
        "eviction age of",
        WARNING,
        thrash_of_disk,
        passes="L3 keeps pages longer than it takes until they are used again (with "
        "`tiers.l3.admission: auto`)",
    ),
    LiveCheck(
        "KVT-L204",
        "cache",
        "loading against computing",
        WARNING,
        load_or_compute,
        passes="L3 gives more tokens a second than prefill computes",
    ),
    LiveCheck(
        "KVT-L205",
        "cache",
        "pages on their way to L3",
        WARNING,
        lost_to_disk,
        passes="L3 takes 99 % of the pages that L2 evicts before they are gone",
    ),
    LiveCheck(
        "KVT-L206",
        "cache",
        "requests put back",
        WARNING,
        preempted,
        passes="1 % of requests at most are put back for want of L1",
    ),
    LiveCheck(
        "KVT-L207",
        "cache",
        "pinned pages",
        WARNING,
        pins,
        passes="pins are not at their limit",
    ),
)
