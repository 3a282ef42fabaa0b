"""A store of the comparison as its driver sees it: a process that is stopped between its turns.

Some stores spin while they wait for work, which would take a processor from the others' turns.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import ROOT

from pagestore.peers.adapter import Setting
from pagestore.turn import Turn


class PeerFailed(Exception):
    """The store did not start, or ended in the middle; the message has its last line."""


@dataclass(frozen=True)
class Peer:
    """A store, and the interpreter that has it."""

    name: str
    module: str
    interpreter: Path


class PeerProcess:
    def __init__(self, peer: Peer, setting: Setting) -> None:
        self.peer = peer
        setting.folder.mkdir(exist_ok=True)
        self._log = setting.folder.parent / f"{peer.module}.log"
        given = asdict(setting) | {"folder": str(setting.folder)}
        command = [
            peer.interpreter,
            ROOT / "benchmarks" / "peer.py",
            peer.module,
            json.dumps(given),
        ]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            self.has_huge_pages: bool = self._answer()["huge"]
        except PeerFailed:
            self.kill()
            raise
        self._process.send_signal(signal.SIGSTOP)

    def warm_up(self) -> None:
        self._ask({"do": "warm_up"})

    def turn(self, what: str, numbers: Sequence[int]) -> Turn:
        return Turn(**self._ask({"do": what, "numbers": list(numbers)}))

    def close(self) -> None:
        """Lets the store close itself."""
        self._process.send_signal(signal.SIGCONT)
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        self._process.send_signal(signal.SIGCONT)
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        answer = self._answer()
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failure(self) -> PeerFailed:
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["no message"]
        return PeerFailed(f"{self.peer.name}: {lines[-1]}")


def interpreter(folder: Path, name: str) -> Path | None:
    """Of a virtual environment below `folder`, if there is one."""
    path = folder / name / "bin" / "python"
    return path if os.access(path, os.X_OK) else None
