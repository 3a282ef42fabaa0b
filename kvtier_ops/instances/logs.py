"""The last lines of a rotated log, and those that are still to come."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

POLL_S = 0.2


def files_of(path: Path) -> list[Path]:
    """`engine.log.2`, `engine.log.1`, `engine.log`: the oldest first."""
    older = []
    number = 1
    while (file := path.with_name(f"{path.name}.{number}")).exists():
        older.append(file)
        number += 1
    return [*reversed(older), path]


@dataclass(frozen=True)
class Position:
    """A place in a file, whatever it is called by now."""

    file: int  # its inode; 0: none was there
    offset: int


def last_lines(path: Path, count: int) -> tuple[list[str], Position]:
    """Of the file, and of the rotated ones where it has fewer; and where it ended."""
    lines: deque[bytes] = deque()
    end = Position(0, 0)
    for file in reversed(files_of(path)):
        wanted = count - len(lines)
        if wanted <= 0 and file != path:
            break
        try:
            with file.open("rb") as opened:
                kept = deque((line for line in opened if line.endswith(b"\n")), wanted)
                if file == path:
                    end = Position(os.fstat(opened.fileno()).st_ino, _end_of_last_line(opened))
        except FileNotFoundError:
            continue
        lines.extendleft(reversed(kept))
    return [line[:-1].decode(errors="replace") for line in lines], end


def follow(path: Path, start: Position, is_over: Callable[[], bool]) -> Iterator[str]:
    """Lines that are added after `start`, through rotations, until `is_over` and the end."""
    file = path.open("rb")
    if os.fstat(file.fileno()).st_ino == start.file:
        file.seek(start.offset)
    try:
        while True:
            over = is_over()  # before the read: what came until then is read
            rotated = _is_rotated(file, path)
            yield from _complete_lines(file)
            if rotated:
                file.close()
                file = path.open("rb")
            elif over:
                return
            else:
                time.sleep(POLL_S)
    finally:
        file.close()


def _complete_lines(file: IO[bytes]) -> Iterator[str]:
    """Those that end; the beginning of one is read again later."""
    while line := file.readline():
        if not line.endswith(b"\n"):
            file.seek(-len(line), os.SEEK_CUR)
            return
        yield line[:-1].decode(errors="replace")


def _is_rotated(file: IO[bytes], path: Path) -> bool:
    try:
        return not os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:  # for a moment, while it is rotated
        return False


def _end_of_last_line(file: IO[bytes]) -> int:
    """Where the next line begins, or began and has no end yet; `file` has been read."""
    end = file.tell()
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
