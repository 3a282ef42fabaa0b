"""What engine and launcher say: to a rotated file, and warnings to the terminal."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, NamedTuple

from kvtier_engine.config import LogFormat, LogLevel
from kvtier_ops.errors import HostError, Problem

FILE_BYTES_MAX = 16 << 20
FILES_KEPT = 5
TAIL_LINES = 200
_JOIN_S = 5.0

# `2026-11-23T18:30:00.123 WARNING core: message`, see kvtier_engine.log.
_RECORD = re.compile(r"^\S+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S+): (.*)$")
_LOUD = ("WARNING", "ERROR", "CRITICAL")


class Record(NamedTuple):
    """A line of the log, taken apart."""

    level: str
    component: str
    message: str


class _LogFile(RotatingFileHandler):
    """On a disk that is full or gone lines are lost, and nobody is stopped or told each time."""

    lost = 0
    why = ""

    def handleError(self, record: logging.LogRecord) -> None:
        self.lost += 1
        self.why = str(sys.exc_info()[1])
        with contextlib.suppress(
            OSError
        ):  # what is buffered would fail again; the next line opens it
            if self.stream is not None:
                self.stream.close()
        self.stream = None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class EngineLog:
    """One file for all launches of a profile, rotated by size alone: those that fail one after
    another do not push out the first one's reason. Engines come one after the other; each one's
    pipe is copied in a thread of its own until it ends."""

    def __init__(
        self,
        path: Path,
        loud: Callable[[str], None],
        layout: LogFormat = "text",
        level: LogLevel = "info",
    ) -> None:
        """`loud` is called with each warning and error of the engine, from the thread.
        Raises HostError."""
        self.path = path
        self._loud = loud
        self._layout = layout
        self._level = level
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._thread: threading.Thread | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = _LogFile(
                path, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, errors="replace"
            )
            end = _last_byte(path)
        except OSError as error:
            hint = "set XDG_STATE_HOME to a folder that you may write to"
            raise HostError(f"cannot write `{path}`: {error.strerror}", hint) from error
        if end:  # a launcher that was killed may have left half a line
            begins = _own_line(layout, "info", "launcher", f"a launch begins, pid {os.getpid()}")
            self._write(begins if end == b"\n" else f"\n{begins}")

    def set_up(self, layout: LogFormat, level: LogLevel) -> None:
        """How lines are written from now on."""
        self._layout, self._level = layout, level

    def event(self, level: LogLevel, message: str) -> None:
        """A line of the launcher's own, if the level lets it through."""
        if getattr(logging, level.upper()) >= getattr(logging, self._level.upper()):
            self._write(_own_line(self._layout, level, "launcher", message))

    def follow(self, pipe: IO[bytes]) -> None:
        """Starts copying the pipe of a new engine; what an earlier one said is its own."""
        self._tail.clear()
        self._thread = threading.Thread(target=self._copy, args=(pipe,), daemon=True)
        self._thread.start()

    def _copy(self, pipe: IO[bytes]) -> None:
        for raw in pipe:
            line = raw.decode(errors="replace").rstrip("\n")
            self._tail.append(line)
            record = parse(line)
            if self._layout == "json" and (record is None or not line.startswith("{")):
                # Not the engine's logging: a library's print, a crash, an `error:` of its start.
                self._write(_own_line("json", "info", "engine", line))
            else:
                self._write(line)
            if record is not None and record.level in _LOUD:
                # A terminal that has hung up: the pipe is read on, or the engine would block.
                with contextlib.suppress(OSError):
                    self._loud(f"{record.component}: {record.message}")

    def _write(self, line: str) -> None:
        before = self._file.lost
        self._file.handle(logging.makeLogRecord({"msg": line}))
        if self._file.lost and not before:
            with contextlib.suppress(OSError):
                self._loud(f"launcher: lines of `{self.path}` are lost: {self._file.why}")
        elif before and self._file.lost == before:  # there is room again
            self._file.lost = 0
            what = f"{before} lines of this log are lost: {self._file.why}"
            self._write(_own_line(self._layout, "warning", "launcher", what))

    def join(self) -> None:
        """Waits for the pipe's end, which comes when the engine's last process ends."""
        if self._thread:
            self._thread.join(_JOIN_S)

    def close(self) -> None:
        self.join()
        self._file.close()

    def tail(self, count: int) -> list[str]:
        return list(self._tail)[-count:]

    def explanation(self) -> Problem | None:
        """What the engine itself said about why it ends: `error:` and `hint:` lines, or its
        last record of an error."""
        return explain(list(self._tail))


def _last_byte(path: Path) -> bytes:
    """Empty for an empty file. Raises OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return os.pread(file.fileno(), 1, size - 1) if size else b""


def parse(line: str) -> Record | None:
    """A record of either layout; None for any other line."""
    if line.startswith("{"):
        try:
            said = json.loads(line)
            return Record(str(said["level"]).upper(), str(said["component"]), str(said["message"]))
        except (ValueError, KeyError, TypeError):
            return None
    match = _RECORD.match(line)
    return Record(match[1], match[2], match[3]) if match else None


def _own_line(layout: LogFormat, level: str, component: str, message: str) -> str:
    """As kvtier_engine.log writes them."""
    at = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03d}"
    if layout == "text":
        return f"{stamp} {level.upper()} {component}: {message}"
    line = {"time": stamp, "level": level, "component": component, "message": message}
    return json.dumps(line, ensure_ascii=False)


def explain(lines: list[str]) -> Problem | None:
    """The first complete sentence that the engine gave for its end."""
    for number, line in enumerate(lines):
        if line.startswith("error: "):
            following = lines[number + 1] if number + 1 < len(lines) else ""
            hint = following.removeprefix("hint: ") if following.startswith("hint: ") else ""
            return Problem(line.removeprefix("error: "), hint)
    records = [record for line in lines if (record := parse(line)) is not None]
    errors = [record.message for record in records if record.level in _LOUD[1:]]
    for message in errors:
        what, marker, hint = message.partition("; hint: ")
        if marker:
            return Problem(what, hint)
    return Problem(errors[0]) if errors else None
