"""What a run measures is left for the next plan; a folder that cannot be written hurts nobody."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kvtier_engine.config import RATES_FILE
from kvtier_engine.core.rates_file import leave_rates
from kvtier_engine.kv.rates import ComputeRate, LoadRate, Rates
from kvtier_ops.plan.measured import read_measured
from kvtier_ops.plan.rates import Measured


def rates(tokens: int = 0, read: int = 0) -> Rates:
    made = Rates(ComputeRate(1, waits=True), page_tokens=64, page_bytes=100)
    made.compute.step(tokens, 2.0, has_drawn=True)
    if read:
        load = cast("Any", SimpleNamespace(bytes_per_s=float(read)))
        made.load = cast("LoadRate", load)
    return made


def test_the_plan_reads_what_a_run_left(tmp_path: Path) -> None:
    leave_rates(tmp_path / "state", rates(1000, 5 * 10**9))
    found = read_measured(tmp_path / "state")
    assert (found.prefill_tokens_per_s, found.disk_read_bytes_per_s) == (500.0, 5e9)
    assert found.when.startswith("20")
    path = tmp_path / "state" / RATES_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    leave_rates(tmp_path, rates(1000))
    assert "l3_read_bytes_per_s" not in json.loads((tmp_path / RATES_FILE).read_text())
    assert read_measured(tmp_path).disk_read_bytes_per_s is None


def test_nothing_measured_leaves_nothing(tmp_path: Path) -> None:
    leave_rates(tmp_path / "state", rates())
    leave_rates(None, rates(1000))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    leave_rates(tmp_path / "file", rates(1000))
    assert "cannot leave what was measured" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"prefill_tokens_per_s": "fast"}',
        '{"prefill_tokens_per_s": -1, "l3_read_bytes_per_s": true, "when": 5}',
        '{"prefill_tokens_per_s": 1e400}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / RATES_FILE).write_text(text)
    assert read_measured(tmp_path) == Measured()
