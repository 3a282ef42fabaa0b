"""Engines for the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engine_process import short_run_dir


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with short_run_dir() as folder:
        yield folder
