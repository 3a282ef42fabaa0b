"""The last lines of a rotated log, and those that are still to come."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
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


def last_lines(path: Path, count: int) -> list[str]:
    """Of the file, and of the rotated ones where it has fewer."""
    lines: deque[str] = deque()
    for file in reversed(files_of(path)):
        wanted = count - len(lines)
        if wanted <= 0:
            break
        try:
            with file.open(errors="replace") as opened:
                lines.extendleft(reversed(deque(opened, wanted)))
        except FileNotFoundError:
            continue
    return [line.rstrip("\n") for line in lines]


def follow(path: Path, is_over: Callable[[], bool]) -> Iterator[str]:
    """Lines that are added from now on, through rotations, until `is_over` and the end."""
    file = path.open(errors="replace")
    file.seek(0, os.SEEK_END)
    pending = ""
    try:
        while True:
            over = is_over()  # before the read: what came until then is read
            while part := file.readline():
                pending += part
                if pending.endswith("\n"):
                    yield pending[:-1]
                    pending = ""
            if _is_rotated(file, path):
                file.close()
                file = path.open(errors="replace")
            elif over:
                return
            else:
                time.sleep(POLL_S)
    finally:
        file.close()


def _is_rotated(file: IO[str], path: Path) -> bool:
    try:
        return not os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:  # for a moment, while it is rotated
        return False
