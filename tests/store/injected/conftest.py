"""One process's faults, taken back after each case, and a directory of the case's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.disk_faults import Faults


@pytest.fixture(scope="module")
def process() -> Faults:
    return Faults()


@pytest.fixture
def faults(process: Faults) -> Iterator[Faults]:
    yield process
    process.clear()


@pytest.fixture
def folder(faults: Faults, request: pytest.FixtureRequest) -> Path:
    return faults.below / request.node.name.replace("[", "-").rstrip("]")
