"""`kvtier launch` in a process of its own, with the fake engine."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ops.builders import make_model
from support.engine_process import wait_for

from kvtier_ops import cli

DRIVER = Path(__file__).with_name("driver.py")
SMALL = ["--set", "tiers.l1.size=4MiB", "--set", "tiers.l2.size=8MiB", "--set", "server.port=0"]

WAIT_S = 60.0  # a busy machine starts a launcher in seconds, not at once


def write_profile(home: Path, text: str = "") -> Path:
    """A profile of a tiny model; small enough for any machine."""
    make_model(home / "model")
    path = home / "small.yaml"
    path.write_text(
        f"version: 1\nmodel: {{path: {home / 'model'}}}\n"
        "tiers: {l1: {size: 4MiB}, l2: {size: 8MiB}}\n"
        + (text or "server: {port: 0, drain_s: 5}\n")
    )
    return path


def run_dir(home: Path) -> Path:
    """Of the one instance that there is."""
    return next((home / "run/kvtier").glob("*"))


def free_port() -> int:
    """Below those that the kernel gives away by itself."""
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@dataclass
class Launched:
    """Output goes to files, so that it can be looked at while the launcher runs."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    home: Path

    @property
    def run_dir(self) -> Path:
        return run_dir(self.home)

    @property
    def log(self) -> str:
        return next((self.home / "state/kvtier/log").glob("*/engine.log")).read_text()

    def seen(self) -> dict[str, Any]:
        """What the fake engine found when it started."""
        result: dict[str, Any] = json.loads((self.run_dir / "seen.json").read_text())
        return result

    def wait_ready(self) -> None:
        wait_for(
            lambda: self.ended() or b"serving" in self.out.read_bytes(), "the endpoint", WAIT_S
        )
        assert not self.ended(), self.err.read_text()

    def wait_text(self, text: str) -> None:
        wait_for(lambda: text in self.err.read_text(), f"`{text}` on stderr", WAIT_S)

    def wait_log(self, text: str) -> None:
        wait_for(lambda: text in self.log, f"`{text}` in the log", WAIT_S)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def signal(self, number: int = signal.SIGINT) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> int:
        return self.process.wait(WAIT_S)


def start(home: Path, profile: Path, plan: dict[str, Any], *arguments: str) -> Launched:
    count = len(list(home.glob("out.*")))
    out, err = home / f"out.{count}", home / f"err.{count}"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            [sys.executable, DRIVER, "launch", str(profile), *arguments],
            stdout=out_file,
            stderr=err_file,
            env={**os.environ, "FAKE_ENGINE": json.dumps(plan)},
        )
    return Launched(process, out, err, home)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def kvtier(*arguments: str, plan: dict[str, Any] | None = None) -> Done:
    """Another command, to its end: one that starts something in a process of its own."""
    if arguments[0] == "launch" and "--dry-run" not in arguments:
        done = subprocess.run(
            [sys.executable, DRIVER, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "FAKE_ENGINE": json.dumps(plan or {})},
        )
        return Done(done.returncode, done.stdout, done.stderr)
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = cli.run(list(arguments))
    return Done(code, out.getvalue(), err.getvalue())


def is_alive(pid: int) -> bool:
    """False also for a process that has ended and only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
