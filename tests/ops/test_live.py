"""Every check of a running engine: once where it passes, once where it fails."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from ops.launched import write_profile
from ops.live_engine import L3, recorded, with_config

from kvtier_ops.doctor import Finding, Severity
from kvtier_ops.doctor.live.check import Live, lasted, run_live
from kvtier_ops.doctor.live.registry import LIVE_CHECKS as CHECKS
from kvtier_ops.doctor.live.samples import Scrape, Span, read_scrape
from kvtier_ops.profile.load import load_profile
from kvtier_ops.profile.schema import Profile


def scrape(text: str) -> Scrape:
    return read_scrape("http://here", text)


def engine(changes: dict[str, object] | None = None, **config: object) -> Live:
    """Since its start."""
    return Live(Span(scrape(with_config(recorded(changes or {}), **config))), version="0.1.0")


def look(check: str, live: Live) -> list[Finding]:
    return list(run_live([each for each in CHECKS if each.id == check], live))


def the(check: str, live: Live) -> Finding:
    """The one that does not pass, if there is one."""
    found = look(check, live)
    assert found, f"{check} said nothing"
    wrong = [finding for finding in found if not finding.ok]
    assert len(wrong) <= 1, wrong
    return wrong[0] if wrong else found[0]


SOUND = engine()
DIRECTORY = f'{{directory="{L3}"}}'
L2_ALONE = {'tier_up{tier="l3"}': 0}

FAILING: list[tuple[str, dict[str, object], str, str]] = [
    ("KVT-L102", {"requests_waiting": 32, "requests_running": 32}, "32 requests wait, 32 run",
     "raise `engine.max_running`"),
    ("KVT-L103", {'http_requests_total{endpoint="/v1/completions",status="429"}': 3},
     "3 requests answered 429 since the start", "engine.max_queued"),
    ("KVT-L104", {'http_requests_total{endpoint="/v1/completions",status="500"}': 2},
     "2 x 500 since the start", "kvtier doctor bundle"),
    ("KVT-L201", {f'hit_tokens_total{{tier="{tier}"}}': 90 for tier in ("l1", "l2", "l3")},
     "4.1% of 6,600 prompt tokens", "prompts do not begin alike"),
    ("KVT-L202", {'returned_pages_total{tier="l2"}': 40},
     "60 pages evicted since the start, 0.82 s after their last use; 40 came back, 1.2 s after it",
     "`tiers.l2.size` 1.5 times as large"),
    ("KVT-L202", {'returned_pages_total{tier="l1"}': 40}, "69 pages evicted",
     "tiers.l1.eviction: arc"),
    ("KVT-L203", {"l3_eviction_age_seconds": 600, "l3_reuse_gap_seconds": 7200},
     "pages would stay 10 min", "`tiers.l3.size` larger"),
    ("KVT-L204", {"l3_read_bytes_per_second": 1e6, "computed_instead_of_loaded_pages_total": 12},
     "L3 gives 43 tokens/s; 12 of its pages were computed instead", "kvtier bench disk"),
    ("KVT-L205", {"unsaved_pages_total": 30}, "30 of 60 pages that L2 evicted",
     "writes faster"),
    ("KVT-L206", {"preemptions_total": 2}, "2 times since the start, of 22 requests",
     "tiers.l1.size"),
    ("KVT-L207", {"hint_pinned_pages": 6}, "6 of 6 pages", "kvtier cache unpin"),
    ("KVT-L301", {"l3_disk_written_bytes_total": 1e8}, "1.70 bytes written for each byte",
     "tiers.page_tokens"),
    ("KVT-L302", {"l3_disk_written_bytes_last_day": 2.2e9}, "2.05 times L3's 1.07 GB",
     "tiers.l3.write_bytes_per_day"),
    ("KVT-L303", {"l3_lifetime_disk_written_bytes": 2e9, "l3_lifetime_hit_bytes": 1e9},
     "0.50 bytes found for each byte written", "tiers.l3.admit_sightings"),
    ("KVT-L401", {'tier_up{tier="l2"}': 0}, "out of use", "`L2 is out of use`"),
    ("KVT-L401", {'tier_up{tier="l3"}': 0}, "out of use", "kvtier cache attach l3"),
    ("KVT-L402", {f"l3_directory_writable{DIRECTORY}": 0}, "read, and not written", "dmesg"),
    ("KVT-L402", {f"l3_directory_up{DIRECTORY}": 0}, "out of use", f"kvtier store stat {L3}"),
    ("KVT-L403", {f"l3_directory_direct_io{DIRECTORY}": 0}, "through the page cache", "ext4"),
    ("KVT-L404", {"l2_target_bytes": 1 << 20}, "1.00 MiB of 36.0 MiB are used", "resize l2"),
    ("KVT-L404", {"l2_populating_failed": 1}, "populating stopped", "kvtier doctor"),
    ("KVT-L404", {"l2_numa_bound": 0}, "not bound to its NUMA nodes", "kvtier doctor"),
    ("KVT-L501", {'corrupt_pages_total{cause="checksum",tier="l2"}': 2,
                  'corrupt_pages_total{tier="l3",cause="header"}': 1},
     "l2 checksum: 2, l3 header: 1", "smartctl"),
    ("KVT-L502", {"l3_io_errors_total": 7, f"l3_directory_io_errors_total{DIRECTORY}": 7,
                  "l3_dropped_writes_total": 2, "l3_timed_out_reads_total": 1},
     f"7 reads or writes that failed, 1 reads that took too long, 2 writes that were dropped "
     f"(on `{L3}`)", "see `dmesg` and the engine's log for the disk; `df -h "),
    ("KVT-L502", {"l3_dropped_writes_total": 2}, "2 writes that were dropped",
     f"`df -h {L3}` and `df -i {L3}` tell whether the disk is full"),
    ("KVT-L503", {"bookkeeping_errors_total": 1}, "1", "report"),
    ("KVT-L602", {'pages_capacity{tier="l2"}': 12}, "12 pages", "tiers.l2.size"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "changes", "current", "fix"),
    FAILING,
    ids=[f"{e[0]}-{n}" for n, e in enumerate(FAILING)],
)
def test_a_check_fails_and_says_what_to_do(
    check: str, changes: dict[str, object], current: str, fix: str
) -> None:
    assert the(check, SOUND if check not in ("KVT-L303",) else filled()).ok
    found = the(check, engine(changes))
    assert not found.ok
    assert current in found.current
    assert fix in found.fix
    assert found.required


def filled() -> Live:
    """L3 has been written twice over, and has been worth it."""
    return engine({"l3_lifetime_disk_written_bytes": 2e9, "l3_lifetime_hit_bytes": 5e9})


def test_every_check_is_tried() -> None:
    elsewhere = {"KVT-L101", "KVT-L304", "KVT-L601", "KVT-L603"}
    assert {each.id for each in CHECKS} == {each[0] for each in FAILING} | elsewhere
    assert len({each.id for each in CHECKS}) == len(CHECKS)


def test_every_check_is_in_the_manual_with_its_severity() -> None:
    manual = (Path(__file__).resolve().parents[2] / "docs" / "doctor.md").read_text()
    for check in CHECKS:
        assert f"| {check.id} | {check.severity.value} |" in manual, check.id


def test_severities() -> None:
    assert the("KVT-L401", engine({'tier_up{tier="l3"}': 0})).severity is Severity.FAILURE
    assert the("KVT-L102", SOUND).severity is Severity.WARNING


def test_an_engine_that_starts_or_drains_is_not_ready() -> None:
    assert the("KVT-L101", SOUND).ok
    starting = replace(SOUND, is_ready=False, ready={"status": "starting"})
    assert "GET /ready" in the("KVT-L101", starting).fix
    failed = replace(SOUND, is_ready=False, ready={"status": "failed", "error": "no \x1b weights"})
    assert the("KVT-L101", failed).current == "failed: no ? weights"
    assert "log" in the("KVT-L101", failed).fix
    odd = replace(SOUND, is_ready=False, ready={"status": 7})
    assert not the("KVT-L101", odd).ok


def test_a_change_under_way_is_told_and_explains_a_small_l2() -> None:
    changing = engine({"l2_target_bytes": 1 << 20})
    assert not the("KVT-L404", changing).ok
    changing = replace(changing, admin={"under_way": "resize l2"})
    assert the("KVT-L404", changing).ok
    assert the("KVT-L101", changing).current == "ready; under way: resize l2"


def test_only_what_has_grown_counts_between_two_looks() -> None:
    """What was bad an hour ago is not held against the engine, but errors are told of."""
    errors = {
        'http_requests_total{endpoint="/v1/completions",status="500"}': 2,
        "unsaved_pages_total": 30,
        'corrupt_pages_total{cause="checksum",tier="l2"}': 2,
    }
    text = recorded(errors)
    live = Live(Span(scrape(text), scrape(text), 5.0))
    assert the("KVT-L104", live).current == "none in 5 s"
    assert look("KVT-L205", live) == []
    assert the("KVT-L501", live).current == "l2 checksum: 2 (0 in 5 s)"
    assert "too few to tell" in the("KVT-L201", live).current
    earlier = Live(Span(scrape(text), scrape(recorded(name="before")), 5.0))
    assert not the("KVT-L104", earlier).ok


def test_a_busy_disk() -> None:
    now = recorded({f"l3_directory_reads_busy_seconds_total{DIRECTORY}": 5, "l3_reads_queued": 40})
    live = Live(Span(scrape(now), scrape(recorded(name="before")), 5.0))
    found = the("KVT-L304", live)
    assert not found.ok
    assert "reading 10" in found.current or "reading 9" in found.current
    assert "40 reads" in found.current
    assert the("KVT-L304", Live(Span(scrape(recorded()), scrape(recorded()), 5.0))).ok
    assert look("KVT-L304", engine()) == [], "a life is no interval"


def test_why_and_since_when_a_disk_is_out_of_use() -> None:
    name = f'l3_out_of_use_since_seconds{{directory="{L3}",reason="reads of it: EIO"}}'
    live = engine(
        {f"l3_directory_up{DIRECTORY}": 0, 'tier_up{tier="l3"}': 0, name: time.time() - 7300}
    )
    assert the("KVT-L402", live).current == "out of use; reads of it: EIO, for 2.03 h"
    assert the("KVT-L401", live).current == "out of use: reads of it: EIO, for 2.03 h"


def test_a_full_disk_is_no_error_of_it() -> None:
    """Nothing of it is in the kernel's log or the engine's, and the disk stays in use."""
    live = engine({"l3_dropped_writes_total": 5, "refused_pages_total": 5})
    assert "dmesg" not in the("KVT-L502", live).fix
    directory = the("KVT-L402", live)
    assert (directory.ok, directory.current) == (
        True,
        "read and written; not all writes were taken, see KVT-L502",
    )


def test_a_tier_that_nobody_asked_for_is_not_missed() -> None:
    live = engine({'tier_up{tier="l3"}': 0}, l3_directories="0")
    assert [finding.what for finding in look("KVT-L401", live)] == ["tier l2"]


def test_thrash_is_worse_where_no_tier_is_below() -> None:
    some = {'returned_pages_total{tier="l2"}': 20}
    assert the("KVT-L202", engine(some)).ok
    found = the("KVT-L202", engine({**some, 'tier_up{tier="l3"}': 0}))
    assert not found.ok
    assert "`tiers.l3.directories`" in found.fix
    far = {**some, 'evicted_age_seconds_total{tier="l2"}': 0.5, 'tier_up{tier="l3"}': 0}
    assert "times as large" not in the("KVT-L202", engine(far)).fix
    few = {'evicted_pages_total{tier="l2"}': 19, 'returned_pages_total{tier="l2"}': 19}
    assert the("KVT-L202", engine(few)).ok, "too few to tell"


def test_where_little_was_written_the_directories_lives_count() -> None:
    live = engine({"l3_written_bytes_total": 1e6, "l3_lifetime_disk_written_bytes": 1e8})
    assert (
        "1.70 bytes written for each byte of pages in the directories"
        in the("KVT-L301", live).current
    )
    assert look("KVT-L303", engine({"l3_lifetime_hit_bytes": 0})) == [], "L3 is not full yet"


def test_a_503_is_told_and_is_no_failure() -> None:
    live = engine({'http_requests_total{endpoint="/v1/completions",status="503"}': 4})
    assert the("KVT-L104", live).ok
    assert "4 x 503: it was not ready" in the("KVT-L104", live).current


def test_advice_on_hits_goes_by_what_happens() -> None:
    none = {f'hit_tokens_total{{tier="{tier}"}}': 0 for tier in ("l1", "l2", "l3")}
    lost = {**none, 'returned_pages_total{tier="l2"}': 40}
    assert "was evicted is asked for again" in the("KVT-L201", engine(lost)).fix
    assert "prefix_reuse: false" in the("KVT-L201", engine(none, prefix_reuse="false")).fix


def test_a_queue_with_a_full_l1() -> None:
    full = {"requests_waiting": 40, 'pages_held{tier="l1"}': 16}
    assert the("KVT-L102", engine(full)).fix.startswith("start a second engine")


def running(home: Path, *overrides: str) -> Live:
    """The recorded engine, and a profile that says what it does."""
    return replace(SOUND, profile=profile(home, *overrides))


def profile(home: Path, *overrides: str) -> Profile:
    as_recorded = (
        "model.served_name=smollm2-135m",
        "model.dtype=bfloat16",
        "engine.max_running=32",
        "engine.max_queued=64",
        "engine.max_context_tokens=1000",
        "tiers.l1.size=23MiB",
        "tiers.l2.size=36MiB",
        "tiers.l3.size=1GiB",
        f"tiers.l3.directories=[{L3}]",
        "tiers.l3.write=write_through",
    )
    return load_profile(write_profile(home), [*as_recorded, *overrides]).profile


def test_what_runs_is_what_the_profile_says(home: Path) -> None:
    assert look("KVT-L601", SOUND) == [], "without a profile there is nothing to compare with"
    assert the("KVT-L601", running(home)).ok, look("KVT-L601", running(home))


@pytest.mark.parametrize(
    ("override", "field", "wanted", "found"),
    [
        ("tiers.page_tokens=128", "tiers.page_tokens", "`128`", "`64`"),
        ("engine.max_running=8", "engine.max_running", "`8`", "`32`"),
        ("model.served_name=other", "model.served_name", "`other`", "`smollm2-135m`"),
        ("tiers.l2.eviction=arc", "tiers.l2.eviction", "`arc`", "`lru`"),
        ("tiers.prefix_reuse=false", "tiers.prefix_reuse", "`false`", "`true`"),
        ("tiers.l2.size=64MiB", "tiers.l2.size", "`64.0 MiB`", "`33.7 MiB`"),
        ("tiers.l1.size=8MiB", "tiers.l1.size", "`8.00 MiB`", "`22.5 MiB`"),
        ("tiers.l3.size=2GiB", "tiers.l3.size", "`2.00 GiB`", "`1.00 GiB`"),
        ("tiers.l3.directories=[]", "tiers.l3.size", "`0 B`", "`1.00 GiB`"),
    ],
)
def test_drift(home: Path, override: str, field: str, wanted: str, found: str) -> None:
    finding = the("KVT-L601", running(home, override))
    assert not finding.ok
    assert finding.what == f"what runs `{field}`"
    assert finding.required.startswith(wanted)
    assert finding.current == found


def test_a_tier_that_was_resized_as_the_profile_says_now(home: Path) -> None:
    """As after `kvtier reload`: what the fix asks for has been done."""
    smaller = {'pages_capacity{tier="l2"}': 12}
    found = the("KVT-L602", engine(smaller))
    assert not found.ok
    resized = replace(engine(smaller), profile=profile(home, "tiers.l2.size=17MiB"))
    assert [each.ok for each in look("KVT-L602", resized)] == [True, True]
    said = look("KVT-L602", resized)[1].current
    assert said == "12 pages, as the profile says; 24 when it was started"
    assert the("KVT-L601", resized).ok
    for size in ("36MiB", "auto"):
        other = replace(engine(smaller), profile=profile(home, f"tiers.l2.size={size}"))
        assert not the("KVT-L602", other).ok


def test_what_the_profile_leaves_open_is_no_drift(home: Path) -> None:
    automatic = [
        f"{field}=auto"
        for field in (
            "engine.max_context_tokens", "engine.threads", "tiers.l1.size", "tiers.l2.size",
            "tiers.l3.size", "model.served_name",
        )
    ]  # fmt: skip
    assert the("KVT-L601", running(home, *automatic)).ok


def test_an_engine_of_another_version(home: Path) -> None:
    assert the("KVT-L603", SOUND).ok
    assert the("KVT-L603", engine({}, version="0.0.9")).current == "0.0.9"
    assert not the("KVT-L603", engine({}, version="0.0.9")).ok
    old = "\n".join(line for line in recorded().splitlines() if "config_info" not in line) + "\n"
    live = Live(Span(scrape(old)), profile=profile(home))
    assert "older than this kvtier" in the("KVT-L601", live).current
    assert list(run_live(CHECKS, live)), "it can be looked at all the same"


def test_the_drive_s_own_rating_counts(home: Path) -> None:
    written = {"l3_disk_written_bytes_last_day": 2.2e9}
    live = replace(engine(written), profile=profile(home, "tiers.l3.drive_writes_per_day=3"))
    assert the("KVT-L302", live).ok


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.35, "0.35 s"), (84, "84 s"), (720, "12 min"), (9000, "2.5 h"), (180000, "2.08 days")],
)
def test_times_are_for_reading(seconds: float, text: str) -> None:
    assert lasted(seconds) == text
