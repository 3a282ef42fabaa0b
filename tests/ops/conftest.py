"""A home of its own for every test: nothing of the user's is read or written."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Workers of `pytest -n` ignore Ctrl-C, and what they start would inherit that."""
    if hasattr(config, "workerinput"):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Its name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="kvt-", dir="/tmp") as folder:
        path = Path(folder)
        (path / "run").mkdir(mode=0o700)
        monkeypatch.setenv("HOME", folder)
        monkeypatch.setenv("XDG_CACHE_HOME", str(path / "cache"))
        monkeypatch.setenv("XDG_STATE_HOME", str(path / "state"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(path / "run"))
        monkeypatch.setenv("TERM", "xterm")
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "FAKE_ENGINE"):
            monkeypatch.delenv(name, raising=False)
        yield path
