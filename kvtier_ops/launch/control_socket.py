"""The launcher's end of the control socket; kvtier_ops/instances/control.py is the other."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kvtier_ops.errors import HostError, KvtierError, Refused
from kvtier_ops.instances.state import CONTROL_SOCKET

ASK_S = 2.0  # that a client has to say what it wants
ASK_BYTES_MAX = 4096


class Request:
    """One order. A client that has gone meanwhile changes nothing: the order is carried out."""

    def __init__(self, connection: socket.socket, what: str) -> None:
        self._connection = connection
        self.what = what

    def note(self, text: str) -> None:
        self._say({"note": text})

    def done(self, text: str) -> None:
        self._say({"done": text})

    def fail(self, error: KvtierError) -> None:
        problems = [asdict(problem) for problem in error.problems]
        self._say({"problems": problems, "exit_code": int(error.exit_code)})

    def close(self) -> None:
        self._connection.close()

    def _say(self, line: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(line).encode() + b"\n")


class ControlSocket:
    """Listens in the run folder, which nobody else may enter. Main thread only."""

    def __init__(self, run_dir: Path) -> None:
        """Raises HostError."""
        self._path = run_dir / CONTROL_SOCKET
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            self._listener.bind(str(self._path))
            self._listener.listen(8)
        except OSError as error:
            self._listener.close()
            raise HostError(f"cannot listen at `{self._path}`: {error.strerror}") from error
        self._listener.setblocking(False)
        self.fd = self._listener.fileno()

    def accept(self) -> Request | None:
        """The order that waits; None if the client has gone or says nothing sensible: one that
        has given up was told that nothing is changed."""
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return None
        connection.settimeout(ASK_S)
        what = _what(connection)
        if what is None or _has_hung_up(connection):
            connection.close()
            return None
        return Request(connection, what)

    def refuse(self, why: Refused) -> None:
        """Answers the order that waits, while there is no time for it."""
        request = self.accept()
        if request is not None:
            request.fail(why)
            request.close()

    def close(self) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)


def _has_hung_up(connection: socket.socket) -> bool:
    try:
        is_readable = bool(select.select([connection], [], [], 0)[0])
        return is_readable and not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def _what(connection: socket.socket) -> str | None:
    text = b""
    try:
        while not text.endswith(b"\n") and len(text) < ASK_BYTES_MAX:
            if not select.select([connection], [], [], ASK_S)[0]:
                return None
            part = connection.recv(ASK_BYTES_MAX)
            if not part:
                return None
            text += part
        return str(json.loads(text)["do"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
