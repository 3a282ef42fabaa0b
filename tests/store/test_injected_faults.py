"""Real faults in the store's system calls: runs what is in injected/ below disk_faults.c."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.disk_faults import build_shim, faulty

HERE = Path(__file__).resolve().parent / "injected"
ROOT = HERE.parents[2]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = build_shim(tmp_path_factory.mktemp("shim"))
    if library is None:
        pytest.skip("the shim takes a C compiler")
    return library


def run_cases(shim: Path, folder: Path, cases: str, which: str = "not slow") -> int:
    """How many passed: all of them."""
    below = folder / "below"
    below.mkdir()
    environment = faulty(shim, folder / "rules", below)
    arguments = ["-q", "-p", "no:cacheprovider", "--timeout", "3600", "-m", which]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *arguments, str(HERE / cases)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.splitlines()[-1]
    passed = re.match(r"(\d+) passed", summary)
    assert passed, summary
    assert "skipped" not in summary
    return int(passed[1])


@pytest.mark.parametrize(
    ("cases", "least"), [("cases.py", 21), ("endings.py", 2), ("refusals.py", 5)]
)
def test_faults_in_system_calls(shim: Path, tmp_path: Path, cases: str, least: int) -> None:
    assert run_cases(shim, tmp_path, cases) >= least


@pytest.mark.slow
def test_faults_in_system_calls_for_long(shim: Path, tmp_path: Path) -> None:
    assert run_cases(shim, tmp_path, "cases.py", "slow") == 1
