"""The engine's process, as the launcher sees it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

_READY_TIMEOUT_S = 2.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def engine_command(config: Path) -> list[str]:
    """What starts the engine. `-P`: the current folder's modules are not taken for ours.

    `--parent-pid` lets the engine end when this process is killed.
    """
    module = [sys.executable, "-P", "-m", "kvtier_engine"]
    return [*module, "--config", str(config), "--parent-pid", str(os.getpid())]


class EngineProcess:
    """A child in a process group of its own: Ctrl-C in the terminal reaches only us."""

    def __init__(
        self,
        command: Sequence[str],
        arena_fd: int | None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Starts it, from the main thread: the kernel takes the end of the thread that
        starts a child for the parent's end. `arena_fd` is inherited under its number;
        `environment` is added to our own. Raises OSError."""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=() if arena_fd is None else (arena_fd,),
            process_group=0,
            env={**os.environ, **environment},
        )
        assert self._process.stdout is not None
        self.output = self._process.stdout
        try:
            self.fd = os.pidfd_open(self._process.pid)  # readable when it has ended
        except OSError:  # it would hold its locks and its memory, and nobody would know of it
            self.kill()
            self.output.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def status(self) -> int | None:
        """The exit status, minus the signal's number, or None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Asks the main process to drain."""
        if self.status() is None:
            self._process.terminate()

    def hurry(self) -> None:
        """Asks it once more, by another signal: of two SIGTERM that wait, the kernel delivers
        one, and an engine on a busy host may not have seen the first yet."""
        if self.status() is None:
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Ends the group at once; the engine's other processes go with their parent."""
        if self.status() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """Leaves nothing behind, whatever happened before."""
        self.kill()
        os.close(self.fd)
        self.output.close()


@dataclass(frozen=True)
class Readiness:
    """What GET /ready says. `stages`: name -> (done, total)."""

    is_ready: bool
    stages: dict[str, tuple[int, int]]


def ask_ready(host: str, port: int) -> Readiness | None:
    """None if the server does not answer yet, or answers something else."""
    connection = http.client.HTTPConnection(local(host), port, timeout=_READY_TIMEOUT_S)
    try:
        connection.request("GET", "/ready")
        response = connection.getresponse()
        body = json.loads(response.read())
        return Readiness(response.status == 200, _stages(body.get("stages", {})))
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        return None
    finally:
        connection.close()


def _stages(body: Any) -> dict[str, tuple[int, int]]:
    try:
        return {str(name): (int(at["done"]), int(at["total"])) for name, at in body.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def local(host: str) -> str:
    """An address at which this host reaches a server that listens on `host`."""
    return _ANY_ADDRESS.get(host, host)


def url_of(host: str, port: int) -> str:
    shown = f"[{local(host)}]" if ":" in host else local(host)
    return f"http://{shown}:{port}"
