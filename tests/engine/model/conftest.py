"""A small model for the tests of reading and loading, and a private cache folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.models import small_llama


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama; copy it before changing anything."""
    return small_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$XDG_CACHE_HOME of this test alone."""
    folder = tmp_path / "cache-home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder
