"""launch tunes this machine's hugepages for its engine, and puts them back however it ends."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.launched import Launched, is_alive, kvtier, start, write_profile
from ops.tuned import pool
from support.engine_process import wait_for

from kvtier_ops.launch.host_tuning import _as_root
from kvtier_ops.profile.load import load_profile
from kvtier_ops.tune.journal import journal_path

REAL = Path(pool(0))
PAGES = 8
pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(
        os.geteuid() != 0 or not os.access(REAL, os.W_OK), reason="needs root and hugepages"
    ),
]


def reserved() -> int:
    return int(REAL.read_text())


@pytest.fixture
def before() -> Iterator[int]:
    """None that others have reserved and do not use; the machine has so many as before afterwards,
    whatever a test did."""
    found = reserved()
    REAL.write_text("0")
    yield reserved()
    REAL.write_text(str(found))


@pytest.fixture
def profile(home: Path) -> Path:
    path = write_profile(home)
    path.write_text(
        path.read_text().replace("l2: {size: 8MiB}", "l2: {size: 16MiB, hugepages: 2MiB}")
    )
    return path


def started(home: Path, profile: Path, *arguments: str) -> Launched:
    launched = start(home, profile, {}, *arguments)
    launched.wait_ready()
    return launched


def test_reserves_and_puts_back(home: Path, profile: Path, before: int) -> None:
    launched = started(home, profile)
    assert reserved() == before + PAGES
    launched.signal()
    assert launched.end() == 0
    err = launched.err.read_text()
    assert f"tuned: {REAL}: {before} -> {before + PAGES}" in err
    assert f"put back: {REAL}: {before + PAGES} -> {before}" in err
    assert reserved() == before
    assert not journal_path().exists()


def test_the_arena_lies_in_the_pages_that_were_reserved(
    home: Path, profile: Path, before: int
) -> None:
    launched = started(home, profile)
    config = json.loads((launched.run_dir / "config.json").read_text())
    fd = config["cache"]["l2"]["arena_fd"]
    stat = os.statvfs(f"/proc/{launched.process.pid}/fd/{fd}")
    assert stat.f_bsize == 2 << 20
    launched.signal()
    launched.end()


def test_dry_run_shows_what_it_would_change(profile: Path, before: int) -> None:
    done = kvtier("launch", str(profile), "--dry-run")
    assert done.returncode == 0, done.stderr
    order = ["plan\n", "preflight\n", "tuning, put back at the end\n", "command\n"]
    places = [done.stdout.index(f"\n{title}" if title != "plan\n" else title) for title in order]
    assert places == sorted(places)
    assert f"{before} -> {before + PAGES}" in done.stdout
    assert reserved() == before


def test_no_tune_leaves_the_host_and_stops(profile: Path, home: Path, before: int) -> None:
    done = kvtier("launch", str(profile), "--no-tune")
    assert done.returncode == 3
    assert "KVT-P011" in done.stderr
    assert reserved() == before
    launched = started(home, profile, "--no-tune", "--force", "KVT-P011")
    assert reserved() == before
    assert "warning: forced: KVT-P011" in launched.err.read_text()
    launched.signal()
    assert launched.end() == 0


def test_killed_the_next_launch_puts_back_and_says_so(
    home: Path, profile: Path, before: int
) -> None:
    launched = started(home, profile)
    engine = launched.seen()["pid"]
    launched.signal(signal.SIGKILL)
    launched.end()
    wait_for(lambda: not is_alive(engine), "the engine's end")
    assert reserved() == before + PAGES
    again = started(home, profile)
    err = again.err.read_text()
    assert f"put back what a killed launcher changed: {REAL}: {before + PAGES} -> {before}" in err
    assert reserved() == before + PAGES  # its own
    again.signal()
    assert again.end() == 0
    assert reserved() == before


def test_clean_gives_the_pages_of_a_killed_launch_back(
    home: Path, profile: Path, before: int
) -> None:
    launched = started(home, profile)
    launched.signal(signal.SIGKILL)
    launched.end()
    assert reserved() == before + PAGES
    err = kvtier("ps", "--clean").stderr
    assert f"put back what a killed launcher changed: {REAL}: {before + PAGES} -> {before}" in err
    assert reserved() == before


def test_undo_puts_back_after_a_kill_and_leaves_running_ones_alone(
    home: Path, profile: Path, before: int
) -> None:
    launched = started(home, profile)
    shown = kvtier("tune", "--undo", "--dry-run")
    assert shown.stdout == "nothing to put back\n"
    assert "is running and keeps its changes until it stops" in shown.stderr
    done = kvtier("tune", "--undo")
    assert done.returncode == 0
    assert "is running and keeps its changes until it stops" in done.stderr
    assert reserved() == before + PAGES
    engine = launched.seen()["pid"]
    launched.signal(signal.SIGKILL)
    launched.end()
    wait_for(lambda: not is_alive(engine), "the engine's end")
    assert kvtier("tune", "--undo").returncode == 0
    assert reserved() == before


def test_reload_tunes_for_the_new_sizes_and_all_of_it_is_put_back(
    home: Path, profile: Path, before: int
) -> None:
    launched = started(home, profile)
    profile.write_text(profile.read_text().replace("16MiB", "24MiB"))
    done = kvtier("reload", str(profile))
    assert done.returncode == 0, done.stderr
    assert f"tuned: {REAL}: {before + PAGES} -> {before + PAGES + 4}" in done.stderr
    assert reserved() == before + PAGES + 4
    profile.write_text(profile.read_text().replace("24MiB", "20MiB"))
    done = kvtier("reload", str(profile))
    assert done.returncode == 0, done.stderr
    assert "tuned" not in done.stderr  # enough are there, and they are ours
    launched.signal()
    assert launched.end() == 0
    assert reserved() == before


def test_reload_of_a_launch_that_leaves_the_host_alone(
    home: Path, profile: Path, before: int
) -> None:
    plain = profile.read_text()
    profile.write_text(plain.replace("hugepages: 2MiB", "hugepages: transparent"))
    launched = started(home, profile, "--no-tune")
    profile.write_text(plain)
    done = kvtier("reload", str(profile))
    assert done.returncode == 3
    assert "KVT-P011" in done.stderr
    assert reserved() == before
    launched.signal()
    assert launched.end() == 0


def test_an_engine_that_does_not_start_leaves_nothing(
    home: Path, profile: Path, before: int
) -> None:
    launched = start(home, profile, {"die": 3, "say": ["error: no", "hint: yes"]})
    assert launched.end() == 3
    assert reserved() == before


def test_without_a_journal_nothing_is_tuned_and_the_engine_starts(
    home: Path, profile: Path, before: int
) -> None:
    """L2 lies in ordinary memory then."""
    journal_path().parent.mkdir(parents=True)
    journal_path().with_suffix(".new").mkdir()  # so that no journal can be written
    launched = started(home, profile)
    assert "nothing was tuned" in launched.err.read_text()
    assert reserved() == before
    launched.signal()
    assert launched.end() == 0


def test_a_damaged_journal_is_told_and_does_not_keep_the_engine_from_serving(
    home: Path, before: int
) -> None:
    journal_path().parent.mkdir(parents=True)
    journal_path().write_text("{")
    dry = kvtier("launch", str(write_profile(home)), "--dry-run")
    assert (dry.returncode, "warning: nothing is tuned: the journal" in dry.stderr) == (0, True)
    launched = started(home, write_profile(home))
    err = launched.err.read_text()
    assert "warning: nothing is tuned: the journal" in err
    assert "remove the file" in err
    launched.signal()
    assert launched.end() == 0


def test_soft_limits_are_raised_for_the_engine(home: Path, before: int) -> None:
    profile = write_profile(home)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        launched = started(home, profile)
        limits = Path(f"/proc/{launched.seen()['pid']}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wanted = min(hard, 1 << 16) if hard != resource.RLIM_INFINITY else 1 << 16
    [line] = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert int(line.split()[3]) >= wanted
    launched.signal()
    assert launched.end() == 0


def test_two_launches_have_pages_for_two(home: Path, profile: Path, before: int) -> None:
    """The first one's are free as long as its engine has not come to use them."""
    other = home / "other.yaml"
    other.write_text(profile.read_text())
    launched = [started(home, profile)]
    launched.append(started(home, other))
    assert reserved() == before + 2 * PAGES
    for each, left in zip(launched, (PAGES, 0), strict=True):
        each.signal()
        assert each.end() == 0
        assert reserved() == before + left


def test_what_a_detached_launch_could_not_put_back_is_said(
    home: Path, profile: Path, before: int
) -> None:
    """Nobody looks at it, and its log is closed by then."""
    assert kvtier("launch", str(profile), "--detach").returncode == 0
    full = journal_path().with_suffix(".new")
    full.mkdir()  # so that the journal cannot be written
    assert kvtier("stop", "small").returncode == 0
    [said] = (home / "state/kvtier/log").glob("*/launcher.out")
    assert "error: cannot write the journal" in said.read_text()
    assert reserved() == before + PAGES
    full.rmdir()
    assert kvtier("tune", "--undo").returncode == 0
    assert reserved() == before


def test_the_hint_for_root_has_what_was_set_and_no_secret(home: Path) -> None:
    file = load_profile(write_profile(home))
    again = _as_root(file, ("tiers.l2.size=16MiB", "engine.environment.HF_TOKEN=hf_secret"))
    assert f"tune {file.path} --set tiers.l2.size=16MiB --set " in again
    assert "hf_secret" not in again
