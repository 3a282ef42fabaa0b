"""The lines of a trace: a file, packed or not, or standard input; a line at a time."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from kvtier_ops.errors import BadInput

STDIN = "-"
LINE_BYTES_MAX = 64 << 20  # of one request: some four million blocks
REPORT_EVERY = 500  # lines between two reports of progress
_GZIP_MAGIC = b"\x1f\x8b"

Report = Callable[[int, int], None]  # bytes read, of so many (0: not known)


def no_report(done: int, total: int) -> None:
    """For those who do not want to know."""


def read_lines(path: str, report: Report = no_report) -> Iterator[tuple[int, bytes]]:
    """(number, line), from 1; blank lines are left out, one that is too long comes empty.

    Raises BadInput if the file cannot be read.
    """
    with ExitStack() as stack:
        try:
            raw = _open(path, stack)
            total = 0 if path == STDIN else Path(path).stat().st_size
            is_packed = raw.peek(2)[:2] == _GZIP_MAGIC
            lines = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if is_packed else raw
            for number, line in enumerate(_limited(lines), 1):
                if number % REPORT_EVERY == 0 and total:
                    report(raw.tell(), total)
                if line.strip() or not line:
                    yield number, line
            report(max(1, total), max(1, total))
        except FileNotFoundError:
            raise BadInput(f"there is no trace at `{path}`", "`-` reads standard input") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadInput(
                f"`{path}` is damaged: {error}",
                "the file ends too early, or is no gzip: copy it again",
            ) from error
        except OSError as error:
            raise BadInput(f"`{path}` cannot be read: {error.strerror or error}") from error


def _open(path: str, stack: ExitStack) -> io.BufferedReader:
    if path == STDIN:
        if sys.stdin is None:
            raise BadInput("standard input is closed", "name the trace's file")
        return cast("io.BufferedReader", sys.stdin.buffer)
    return stack.enter_context(open(path, "rb"))


def _limited(lines: IO[bytes]) -> Iterator[bytes]:
    """Lines with their ends; an empty one for each that is longer than a line may be."""
    while line := lines.readline(LINE_BYTES_MAX):
        if len(line) < LINE_BYTES_MAX or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = lines.readline(LINE_BYTES_MAX)
        yield b""
