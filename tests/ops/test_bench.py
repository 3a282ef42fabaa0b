"""`kvtier bench disk`: it leaves a result behind, which the plan goes by, and nothing else."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ops.builders import disk, make_host
from ops.test_plan import DISK, MODEL, profile

from kvtier_ops import cli
from kvtier_ops.bench import disk as bench
from kvtier_ops.bench import results
from kvtier_ops.bench.disk import DiskResult, Rate, measure_disk
from kvtier_ops.errors import BadInput, HostError, Refused
from kvtier_ops.host import Drive, DriveKind
from kvtier_ops.plan import make_plan
from kvtier_ops.plan.measured import disks_file, read_measured
from kvtier_ops.plan.types import Source

Capture = pytest.CaptureFixture[str]
PAGE = 64 << 10


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "FILE_BYTES_MAX", 64 * PAGE)


def quiet(stage: str, done: int, total: int) -> None:
    assert 0 < done <= total


def test_every_depth_moves_pages_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the calls: what is said to be read was read."""
    calls: Counter[str] = Counter()
    for name in ("preadv", "pwritev"):
        real = getattr(os, name)

        def counted(*given: Any, name: str = name, real: Any = real) -> int:
            calls[name] += 1
            return int(real(*given))

        monkeypatch.setattr(os, name, counted)
    stages: set[str] = set()
    result = measure_disk(tmp_path, PAGE, 0.6, lambda stage, done, total: stages.add(stage))
    assert [rate.depth for rate in result.reads] == [1, 4, 16]
    assert [rate.depth for rate in result.writes] == [1, 4, 16]
    for rate in (*result.reads, *result.writes):
        assert rate.bytes_per_s > 0
        assert 0 < rate.p50_ms <= rate.p99_ms
        assert rate.deviation >= 0
    assert calls["preadv"] >= 3
    assert calls["pwritev"] >= 64 + 3  # each page once before, so that reads find something
    assert stages == {"fill", "measure"}
    assert list(tmp_path.iterdir()) == []


def test_the_best_depth_counts() -> None:
    rates = tuple(Rate(depth, rate, 0.1, 1, 2) for depth, rate in ((1, 5.0), (4, 9.0), (16, 7.0)))
    result = DiskResult(PAGE, True, rates, rates[:1])
    assert (result.best_read.depth, result.best_write.depth) == (4, 1)


def test_how_steady_it_was() -> None:
    """Nine transfers in the first of five parts, and one in each other: 9 against 1."""
    ends = [*[(0.1, 0.01)] * 9, (1.1, 0.02), (2.1, 0.02), (3.1, 0.02), (4.9, 0.5)]
    found = bench._rate(1, ends, 5.0, 1000)
    assert found.bytes_per_s == 13 * 1000 / 5
    assert found.deviation == pytest.approx((9 - 1) / 2 / 1)
    assert (found.p50_ms, found.p99_ms) == (pytest.approx(10), pytest.approx(500))
    assert bench._rate(1, [], 5.0, 1000).bytes_per_s == 0


def test_the_plan_goes_by_it(home: Path) -> None:
    on = disk(DISK, drive_kind=DriveKind.NVME, drives=(Drive("nvme7n1", DriveKind.NVME),)).on
    rates = (Rate(4, 2.5e9, 0.1, 1, 2),)
    results.keep(on, DiskResult(PAGE, True, rates, (Rate(1, 1.5e9, 0.1, 1, 2),)))
    results.keep(replace(on, drives=(Drive("other", DriveKind.HDD),)), DiskResult(
        PAGE, True, (Rate(1, 1.0, 0, 1, 1),), (Rate(1, 1.0, 0, 1, 1),)
    ))  # fmt: skip
    measured = read_measured(home)
    assert set(measured.disks) == {"nvme7n1", "other"}
    host = make_host(directories={DISK: replace(disk(DISK), on=on)})
    made = make_plan(profile(l3="4GiB"), host, MODEL, measured).answers.rates
    assert made.disk_read_bytes_per_s is not None
    assert made.disk_write_bytes_per_s is not None
    assert (made.disk_read_bytes_per_s.value, made.disk_write_bytes_per_s.value) == (2.5e9, 1.5e9)
    assert made.disk_read_bytes_per_s.source is Source.MEASURED
    assert made.disk_read_bytes_per_s.reason.startswith("`kvtier bench disk`, 20")
    elsewhere = make_plan(profile(l3="4GiB"), make_host(disks=[DISK]), MODEL, measured)
    assert elsewhere.answers.rates.disk_read_bytes_per_s is not None
    assert elsewhere.answers.rates.disk_read_bytes_per_s.source is Source.ASSUMED


@pytest.mark.parametrize(
    "text", ["", "[", '{"nvme7n1": 5}', '{"nvme7n1": {"read_bytes_per_s": 1}}']
)
def test_a_damaged_result_is_none(home: Path, text: str) -> None:
    disks_file().parent.mkdir(parents=True)
    disks_file().write_text(text)
    assert read_measured(home).disks == {}
    rates = (Rate(4, 2.5e9, 0.1, 1, 2),)
    results.keep(disk(DISK).on, DiskResult(PAGE, True, rates, rates))
    assert len(read_measured(home).disks) == 1


def test_the_command(home: Path, capfd: Capture) -> None:
    (home / "pages").mkdir()
    arguments = ["bench", "disk", str(home / "pages"), "--page", "64KiB", "--seconds", "0.3"]
    assert cli.run(arguments) == 0
    out, err = capfd.readouterr()
    assert "reads " in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "`kvtier plan` goes by it" in err
    assert json.loads(disks_file().read_text())
    assert cli.run([*arguments, "--json"]) == 0
    made = json.loads(capfd.readouterr().out)
    assert made["page_bytes"] == PAGE
    assert len(made["reads"]) == 3
    assert list((home / "pages").iterdir()) == []


def test_what_cannot_be_kept_is_known_before_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    """And where that comes later, such as a disk that fills up, the figures are shown all the
    same."""
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nothing")
    disk = ["bench", "disk", str(tmp_path), "--page", "64KiB", "--seconds", "0.3"]
    memory = ["bench", "memory", "--seconds", "0.2"]
    for arguments in (disk, memory):
        assert cli.run(arguments) == 3
        out, err = capfd.readouterr()
        assert (out, err.count("%")) == ("", 0)
        assert "error: cannot keep the result in `/proc/nothing/kvtier/" in err
    monkeypatch.setattr(results, "check_can_keep", lambda path: None)
    for arguments, shown in ((disk, "reads "), (memory, "node 0"), ([*disk, "--json"], "reads")):
        assert cli.run(arguments) == 3
        out, err = capfd.readouterr()
        assert shown in out
        assert "error: cannot keep the result" in err


def test_a_nearly_full_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(f_blocks=10**6, f_frsize=4096, f_bavail=10**5)  # a tenth is free
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(Refused, match="a nearly full disk is slower"):
        measure_disk(tmp_path, PAGE, 0.3, quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_is_a_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(HostError, match=r"cannot measure .*: Input/output error"):
        measure_disk(tmp_path, PAGE, 0.3, quiet)
    monkeypatch.setattr(os, "preadv", lambda *given: 512)
    with pytest.raises(HostError, match="only 512 of 65536 bytes"):
        measure_disk(tmp_path, PAGE, 0.3, quiet)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["/nowhere"], "there is no directory `/nowhere`"),
        (["/tmp", "--page", "4"], "the unit is missing"),
        (["/tmp", "--page", "5000B"], "whole blocks of 4096"),
        (["/tmp", "--page", "1B"], "a page has 4KiB to 1GiB"),
        (["/tmp", "--seconds", "999"], "are not between 0.1 and 50"),
    ],
)
def test_mistakes(home: Path, capfd: Capture, arguments: list[str], what: str) -> None:
    assert cli.run(["bench", "disk", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert what in err


def test_without_direct_io_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuses(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuses)
    assert not measure_disk(tmp_path, PAGE, 0.3, quiet).is_direct
    assert list(tmp_path.iterdir()) == []


def test_no_page_of_ours_is_refused_by_its_size() -> None:
    with pytest.raises(BadInput, match="whole blocks"):
        measure_disk(Path("/tmp"), 1000, 0.3, quiet)
