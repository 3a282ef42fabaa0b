"""The engine's processes for real: exit statuses, signals, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support import serve_fake
from support.engine_process import wait_for
from support.server_thread import MODEL, server_config

from kvtier_engine.server.core_process import CoreProcess


class Engine:
    """The server's process with a FakeCore below, started for one test."""

    def __init__(self, model: Path, folder: Path, behaviour: str = "echo", **changes: Any) -> None:
        self.config = server_config(model, folder / "run", **changes)
        self.file = folder / "engine.json"
        self.file.write_text(self.config.model_dump_json())
        self.log = folder / "log"
        command = [sys.executable, str(serve_fake.__file__), "--config", str(self.file)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--behaviour", behaviour], stderr=log, start_new_session=True
            )
        self.address_file = self.config.run_dir / "address"

    def url(self) -> str:
        wait_for(lambda: self.address_file.exists() or self.process.poll() is not None, "address")
        address = json.loads(self.address_file.read_text())
        assert address["pid"] == self.process.pid
        return f"http://{address['host']}:{address['port']}"

    @contextmanager
    def ready(self) -> Iterator[httpx.Client]:
        """A client, once the engine is ready."""
        with httpx.Client(base_url=self.url(), timeout=20) as client:
            wait_for(lambda: client.get("/ready").status_code == 200, "the engine to be ready")
            yield client

    def core(self) -> psutil.Process:
        [core] = psutil.Process(self.process.pid).children()
        return core


@pytest.fixture
def start(tiny_model: Path, tmp_path: Path) -> Iterator[Any]:
    engines: list[Engine] = []

    def start(behaviour: str = "echo", **changes: Any) -> Engine:
        engines.append(Engine(tiny_model, tmp_path, behaviour, **changes))
        return engines[-1]

    yield start
    for engine in engines:
        if engine.process.poll() is None:
            engine.process.kill()
        engine.process.wait(10)


def test_ctrl_c_ends_it_and_leaves_nothing(start: Any) -> None:
    engine = start()
    with engine.ready() as client:
        answer = client.post("/v1/completions", json={"prompt": "x", "model": MODEL})
        assert answer.status_code == 200
    core = engine.core()
    maps = Path(f"/proc/{engine.process.pid}/maps").read_text()
    assert "tokenizers" in maps
    assert "torch" not in maps, "the server process must stay light"
    assert os.getpgid(core.pid) != os.getpgid(engine.process.pid)
    os.killpg(engine.process.pid, signal.SIGINT)
    assert engine.process.wait(30) == 0, engine.log.read_text()
    assert not core.is_running()
    assert not engine.address_file.exists()
    assert (engine.config.run_dir.stat().st_mode & 0o777) == 0o700


def test_kill_9_leaves_no_orphan(start: Any) -> None:
    engine = start()
    engine.url()
    core = engine.core()
    engine.process.kill()
    wait_for(lambda: not core.is_running() or core.status() == "zombie", "the core to end", 10)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("exit", ["the core process ended: exit status 7"]),
        ("fail", ["the weights are gone; hint: put them back"]),
    ],
)
def test_a_core_that_ends_ends_the_engine(start: Any, behaviour: str, words: list[str]) -> None:
    engine = start(behaviour)
    assert engine.process.wait(30) == 1
    log = engine.log.read_text()
    for word in words:
        assert word in log
    assert "Traceback" not in log


def test_port_in_use(start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        engine = start(server__port=port)
        assert engine.process.wait(30) == 3
    log = engine.log.read_text()
    assert f"error: 127.0.0.1:{port} is in use" in log
    assert "hint: " in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["cannot read", "No such file"]),
        ("{", ["Invalid JSON"]),
        ('{"model": {"path": "/x"}}', ["`model.served_name`", "`run_dir`"]),
    ],
)
def test_bad_configuration(tmp_path: Path, capfd, text: str | None, words: list[str]) -> None:
    from kvtier_engine.__main__ import main

    file = tmp_path / "engine.json"
    if text is not None:
        file.write_text(text)
    assert main(["--config", str(file)]) == 2
    printed = capfd.readouterr().err
    assert printed.startswith("error: ")
    for word in [*words, str(file)]:
        assert word in printed


def test_run_dir_too_long_for_a_socket(tiny_model: Path, tmp_path: Path, capfd) -> None:
    from kvtier_engine.__main__ import main

    file = tmp_path / "engine.json"
    file.write_text(server_config(tiny_model, tmp_path / ("x" * 100)).model_dump_json())
    assert main(["--config", str(file)]) == 2
    assert "107 at most" in capfd.readouterr().err


def test_the_core_s_command_and_inherited_arena(tiny_model, tmp_path, monkeypatch) -> None:
    """A stand-in for Python writes down what it was started with."""
    seen = tmp_path / "seen"
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/bash\necho "$@" > {seen}.new\ncat <&$ARENA >> {seen}.new\nmv {seen}.new {seen}\n'
    )
    script.chmod(0o755)
    arena_fd = os.memfd_create("arena", os.MFD_CLOEXEC)
    try:
        os.write(arena_fd, b"pages")
        os.lseek(arena_fd, 0, os.SEEK_SET)
        monkeypatch.setenv("ARENA", str(arena_fd))
        monkeypatch.setattr(sys, "executable", str(script))
        config = server_config(tiny_model, tmp_path)
        l2 = config.cache.l2.model_copy(update={"arena_fd": arena_fd})
        cache = config.cache.model_copy(update={"l2": l2})
        process = CoreProcess.start(
            config.model_copy(update={"cache": cache}), tmp_path / "c.json", "ipc://s"
        )
        wait_for(seen.exists, "the command", 10)
        process.close()
    finally:
        os.close(arena_fd)
    command, content = seen.read_text().splitlines()
    options = f"--config {tmp_path}/c.json --socket ipc://s --parent-pid {os.getpid()}"
    assert command == f"-P -m kvtier_engine.core {options}"
    assert content == "pages"
