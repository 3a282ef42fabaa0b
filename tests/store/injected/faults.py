"""The rules of shim.c, changed while a store runs in this process."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import Structure, c_int
from pathlib import Path

KINDS = ("read", "write", "sync", "allocate", "punch", "open", "open_direct", "probe")
FILES = ("everywhere", "segments", "others")
ALL = -1


class Rule(Structure):
    _fields_ = [
        (name, c_int)
        for name in ("error", "count", "shorten", "stall", "where", "hits", "waiting", "unused")
    ]


RULES_BYTES = len(KINDS) * 4 * 8


class Faults:
    def __init__(self) -> None:
        with open(os.environ["KVTIER_FAULTS"], "r+b") as file:
            memory = mmap.mmap(file.fileno(), RULES_BYTES)
        self._rules = {kind: Rule.from_buffer(memory, i * 32) for i, kind in enumerate(KINDS)}
        self.below = Path(os.environ["KVTIER_FAULTS_BELOW"])

    def fail(
        self, kind: str, error: int, *, count: int = ALL, shorten: int = 0, where: str = "segments"
    ) -> None:
        """The next `count` calls of this kind fail, or move `shorten` bytes if `error` is 0."""
        rule = self._rules[kind]
        rule.error, rule.shorten, rule.where = error, shorten, FILES.index(where)
        rule.count = count

    def stall(self, kind: str, *, where: str = "segments") -> None:
        self._rules[kind].where = FILES.index(where)
        self._rules[kind].stall = 1

    def clear(self) -> None:
        for rule in self._rules.values():
            rule.count = rule.error = rule.shorten = rule.stall = 0

    def hits(self, kind: str) -> int:
        """Calls that met a rule, since the process began."""
        return int(self._rules[kind].hits)

    def waiting(self, kind: str) -> int:
        return int(self._rules[kind].waiting)

    def forget_waiting(self, kind: str) -> None:
        """Those of a process that has ended."""
        self._rules[kind].waiting = 0

    @contextmanager
    def failing(self, kind: str, error: int, **how: int | str) -> Iterator[None]:
        """For a block, which must meet the rule."""
        before = self.hits(kind)
        self.fail(kind, error, **how)  # type: ignore[arg-type]
        yield
        self.clear()
        assert self.hits(kind) > before, f"no {kind} met the rule: the test shows nothing"
