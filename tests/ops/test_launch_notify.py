"""What systemd hears of a launch: how far the start is, ready, stopping."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.launched import start, write_profile


@pytest.fixture
def systemd(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(home / "notify"))
        listener.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(home / "notify"))
        yield listener


def test_a_launch_from_its_start_to_its_end(home: Path, systemd: socket.socket) -> None:
    launched = start(home, write_profile(home), {"steps": 4})
    heard: list[str] = []
    while not heard or "READY=1" not in heard[-1]:
        heard.append(systemd.recv(4096).decode())
    assert len(heard) > 1
    for text in heard[:-1]:
        assert text.startswith("EXTEND_TIMEOUT_USEC=")
        assert "STATUS=starting: " in text
    assert "STATUS=serving model at http://127.0.0.1:" in heard[-1]
    launched.signal()
    assert systemd.recv(4096) == b"STOPPING=1\nSTATUS=draining"
    assert launched.end() == 0
