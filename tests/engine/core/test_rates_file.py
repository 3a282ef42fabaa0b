"""What a run measures is left for the next plan; a folder that cannot be written hurts nobody."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kvtier_engine.config import RATES_FILE, EngineConfig
from kvtier_engine.core.rates_file import leave_rates
from kvtier_engine.kv.rates import ComputeRate, LoadRate, Rates
from kvtier_ops.plan.measured import Measured, read_measured


def rates(tokens: int = 0, read: int = 0) -> Rates:
    made = Rates(ComputeRate(1, waits=True), page_tokens=64, page_bytes=100)
    made.compute.step(tokens, 2.0, has_drawn=True)
    if read:
        load = cast("Any", SimpleNamespace(bytes_per_s=float(read)))
        made.load = cast("LoadRate", load)
    return made


def config(state_dir: Path | None) -> EngineConfig:
    values = {
        "model": {"path": "/m", "served_name": "m"},
        "cache": {
            "geometry": {"layers": 1, "kv_heads": 1, "head_dim": 8},
            "l1": {"pages": 8},
            "l2": {"pages": 8},
            "l3": {"directories": [{"path": "/d/b", "capacity_bytes": 1}]},
        },
        "scheduler": {"max_context_tokens": 64},
        "parallel": {"threads_per_rank": 3},
        "run_dir": "/run/x",
        "state_dir": state_dir,
    }
    return EngineConfig.model_validate(values)


def test_the_plan_reads_what_a_run_left(tmp_path: Path) -> None:
    leave_rates(config(tmp_path / "state"), rates(1000, 5 * 10**9))
    found = read_measured(tmp_path / "state")
    assert found.prefill is not None
    assert found.l3_read is not None
    assert (found.prefill.per_s, found.l3_read.per_s) == (500.0, 5e9)
    assert found.prefill.when.startswith("20")
    device = {"model": "/m", "dtype": "bfloat16", "device": "cpu", "tensor_parallel": 1}
    assert found.prefill.is_of(**device, threads=3)
    assert not found.prefill.is_of(**device, threads=2)
    assert found.l3_read.is_of(directories=["/d/b"])
    path = tmp_path / "state" / RATES_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_what_is_not_known_leaves_what_was_known_before(tmp_path: Path) -> None:
    leave_rates(config(tmp_path), rates(1000))
    assert read_measured(tmp_path).l3_read is None
    leave_rates(config(tmp_path), rates(0, 7000))
    leave_rates(config(tmp_path), rates(3000))
    found = read_measured(tmp_path)
    assert found.prefill is not None
    assert found.l3_read is not None
    assert (found.prefill.per_s, found.l3_read.per_s) == (1500.0, 7000.0)


def test_nothing_measured_leaves_nothing(tmp_path: Path) -> None:
    leave_rates(config(tmp_path / "state"), rates())
    leave_rates(config(None), rates(1000))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    leave_rates(config(tmp_path / "file"), rates(1000))
    assert "cannot leave what was measured" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"prefill": "fast", "l3_read": []}',
        '{"prefill": {"tokens_per_s": -1}, "l3_read": {"bytes_per_s": true, "when": 5}}',
        '{"prefill": {"tokens_per_s": 1e400}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / RATES_FILE).write_text(text)
    assert read_measured(tmp_path) == Measured()
