"""The rules of disk_faults.c, changed while a store runs below it, in this process or another."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import Structure, c_int, sizeof
from pathlib import Path

KINDS = ("read", "write", "sync", "allocate", "punch", "open", "open_direct", "probe")
FILES = ("everywhere", "segments", "others")
ALL = -1


SOURCE = Path(__file__).with_name("disk_faults.c")


class Rule(Structure):
    _fields_ = [
        (name, c_int)
        for name in (
            "error",
            "count",
            "delay_ms",
            "shorten",
            "flip",
            "stall",
            "where",
            "hits",
            "waiting",
        )
    ]


RULES_BYTES = len(KINDS) * sizeof(Rule)


def build_shim(folder: Path) -> Path | None:
    """The library to preload; None if there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    library = folder / "disk_faults.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run([compiler, *flags, SOURCE, "-o", library, "-ldl"], check=True)
    return library


def faulty(shim: Path, rules: Path, below: Path) -> dict[str, str]:
    """The environment of a process whose calls for what is `below` obey `rules`, a new file."""
    rules.write_bytes(bytes(RULES_BYTES))
    paths = {"LD_PRELOAD": shim, "KVTIER_FAULTS": rules, "KVTIER_FAULTS_BELOW": below}
    return {name: str(path) for name, path in paths.items()}


class Faults:
    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """`environment`: from `faulty`, of the process that obeys."""
        with open(environment["KVTIER_FAULTS"], "r+b") as file:
            memory = mmap.mmap(file.fileno(), RULES_BYTES)
        self._rules = {
            kind: Rule.from_buffer(memory, i * sizeof(Rule)) for i, kind in enumerate(KINDS)
        }
        self.below = Path(environment["KVTIER_FAULTS_BELOW"])

    def fail(
        self, kind: str, error: int, *, count: int = ALL, shorten: int = 0, where: str = "segments"
    ) -> None:
        """The next `count` calls of this kind fail, or move `shorten` bytes if `error` is 0."""
        rule = self._rules[kind]
        rule.error, rule.shorten, rule.where = error, shorten, FILES.index(where)
        rule.count = count

    def dawdle(self, kind: str, delay_ms: int, *, where: str = "segments") -> None:
        """Calls of this kind take so much longer."""
        rule = self._rules[kind]
        rule.error, rule.delay_ms, rule.where = 0, delay_ms, FILES.index(where)
        rule.count = ALL

    def flip(self, *, count: int, where: str = "segments") -> None:
        """One bit is another one in what each of the next `count` reads brings."""
        rule = self._rules["read"]
        rule.error, rule.flip, rule.where = 0, 1, FILES.index(where)
        rule.count = count

    def stall(self, kind: str, *, where: str = "segments") -> None:
        self._rules[kind].where = FILES.index(where)
        self._rules[kind].stall = 1

    def clear(self) -> None:
        for rule in self._rules.values():
            rule.count = rule.error = rule.shorten = rule.stall = 0
            rule.delay_ms = rule.flip = 0

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
