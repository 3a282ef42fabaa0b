"""Whose change it is: a launcher's, which ends with it, or the operator's, which stays."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

OPERATOR_NAME = "kvtier tune"
_START_FIELD = 19  # of /proc/PID/stat behind the name: ticks after boot (proc(5), field 22)


@dataclass(frozen=True)
class Owner:
    """`pid` 0: nobody's process; a pid alone is given again to others, with its start it is not."""

    name: str
    pid: int = 0
    started: int = 0

    @property
    def is_operator(self) -> bool:
        return self.pid == 0

    @property
    def is_alive(self) -> bool:
        return self.pid != 0 and _start_of(self.pid) == self.started


OPERATOR = Owner(OPERATOR_NAME)


def this_process(name: str) -> Owner:
    return Owner(name, os.getpid(), _start_of(os.getpid()))


def _start_of(pid: int) -> int:
    """-1 if there is no such process, or it has ended and is not reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[_START_FIELD]) if fields[0] not in "ZX" else -1
    except (OSError, ValueError, IndexError):
        return -1
