"""The engine's stderr: to a rotated file, its warnings to the terminal, its end to the error."""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

from kvtier_ops.errors import HostError, Problem

FILE_BYTES_MAX = 16 << 20
FILES_KEPT = 5
TAIL_LINES = 200
_JOIN_S = 5.0

# `2026-11-23T18:30:00.123 WARNING core: message`, see kvtier_engine.log.
_RECORD = re.compile(r"^\S+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S+): (.*)$")
_LOUD = ("WARNING", "ERROR", "CRITICAL")


class EngineLog:
    """Copies lines from a pipe in a thread of its own until the pipe ends."""

    def __init__(self, path: Path, loud: Callable[[str], None]) -> None:
        """`loud` is called with each warning and error, from the thread. Raises HostError."""
        self.path = path
        self._loud = loud
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._thread: threading.Thread | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = RotatingFileHandler(
                path, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, errors="replace"
            )
        except OSError as error:
            hint = "set XDG_STATE_HOME to a folder that you may write to"
            raise HostError(f"cannot write `{path}`: {error.strerror}", hint) from error
        if path.stat().st_size:
            self._file.doRollover()

    def follow(self, pipe: IO[bytes]) -> None:
        """Starts copying `pipe`."""
        self._thread = threading.Thread(target=self._copy, args=(pipe,), daemon=True)
        self._thread.start()

    def _copy(self, pipe: IO[bytes]) -> None:
        is_loud = False
        for raw in pipe:
            line = raw.decode(errors="replace").rstrip("\n")
            self._tail.append(line)
            self._file.emit(logging.makeLogRecord({"msg": line}))
            match = _RECORD.match(line)
            if match:
                is_loud = match[1] in _LOUD
                if is_loud:
                    self._loud(f"{match[2]}: {match[3]}")

    def close(self) -> None:
        """Waits for the pipe's end, which comes when the engine's last process ends."""
        if self._thread:
            self._thread.join(_JOIN_S)
        self._file.close()

    def tail(self, count: int) -> list[str]:
        return list(self._tail)[-count:]

    def explanation(self) -> Problem | None:
        """What the engine itself said about why it ends: `error:` and `hint:` lines, or its
        last record of an error."""
        return explain(list(self._tail))


def explain(lines: list[str]) -> Problem | None:
    """The first complete sentence that the engine gave for its end."""
    for number, line in enumerate(lines):
        if line.startswith("error: "):
            following = lines[number + 1] if number + 1 < len(lines) else ""
            hint = following.removeprefix("hint: ") if following.startswith("hint: ") else ""
            return Problem(line.removeprefix("error: "), hint)
    errors = [match for line in lines if (match := _RECORD.match(line)) and match[1] in _LOUD[1:]]
    for match in errors:
        what, marker, hint = match[3].partition("; hint: ")
        if marker:
            return Problem(what, hint)
    return Problem(errors[0][3]) if errors else None
