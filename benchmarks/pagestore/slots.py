"""Put and random get against raw slots of the same size, at the same depth."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from harness import table

from pagestore import fio
from pagestore.client import Client
from pagestore.scope import Scope
from pagestore.turn import MIB, Contest, Turn, bar

DEPTHS = (1, 4)


class Slots:
    """A full store, and a file of as many slots for fio, on the same file system."""

    def __init__(self, folder: Path, page_bytes: int, scope: Scope) -> None:
        self.page_bytes = page_bytes
        self.slots, self.count = scope.slots(page_bytes), scope.count(page_bytes)
        self.file = folder / "raw"
        self.client = Client(folder / "store", page_bytes, self.slots)
        self.client.huge = scope.huge
        self.client.fill()
        fio.lay_out(self.file, page_bytes, self.slots)
        self._written = 0

    @staticmethod
    @contextmanager
    def made(page_bytes: int, scope: Scope) -> Iterator[Slots]:
        """Gone from the disk when the block ends, however it ends."""
        with tempfile.TemporaryDirectory(dir=scope.folder) as folder:
            slots = Slots(Path(folder), page_bytes, scope)
            try:
                yield slots
            finally:
                slots.client.close()

    def fio_put(self, depth: int) -> Turn:
        """Goes round the file, as the store goes round its slots."""
        first = self._written % (self.slots - self.count + 1)
        self._written += self.count
        return fio.run(self.job("write", depth=depth, first=first))

    def fio_get(self, depth: int) -> Turn:
        return fio.run(self.job("randread", depth=depth))

    def job(self, rw: str, **more: Any) -> fio.Job:
        """As many slots as a turn has, through buffers like the store's; or as `more` says."""
        job = fio.Job(self.file, rw, self.page_bytes, self.count, slots=self.slots)
        return replace(job, huge=self.client.huge, **more)

    def contest(self, direction: str, depth: int) -> Contest:
        if direction == "put":
            return Contest(
                {
                    "fio": partial(self.fio_put, depth),
                    "kvtier": partial(self.client.put, self.count, depth),
                }
            )
        return Contest(
            {
                "fio": partial(self.fio_get, depth),
                "kvtier": partial(self.client.get, self.count, depth),
            }
        )


HEADER = (
    "page",
    "what",
    "depth",
    "fio GB/s",
    "kvtier GB/s",
    "ratio (≥ 0.95)",
    "fio p50 / p99 ms",
    "kvtier p50 / p99 ms",
    "p50 ratio (get at 1: ≤ 1.1)",
    "fio CPU s/GiB",
    "kvtier CPU s/GiB (≤ 0.20)",
)


def run(scope: Scope) -> str:
    rows = []
    for page_bytes in scope.page_sizes:
        with Slots.made(page_bytes, scope) as slots:
            for direction in ("put", "get"):
                for depth in DEPTHS:
                    contest = slots.contest(direction, depth).run(scope.rounds)
                    rows.append(_row(page_bytes, direction, depth, contest))
    return table(HEADER, rows)


def _row(page_bytes: int, direction: str, depth: int, contest: Contest) -> list[str]:
    rates = contest.ratio("kvtier", "fio", lambda turn: turn.gb_per_s)
    p50s = contest.ratio("kvtier", "fio", lambda turn: turn.p50_ms)
    single_get = direction == "get" and depth == 1
    return [
        f"{page_bytes // MIB} MiB",
        direction,
        str(depth),
        f"{contest.rate('fio'):.2f}",
        f"{contest.rate('kvtier'):.2f}",
        bar(rates, 0.95, at_least=True),
        f"{contest.p50('fio'):.2f} / {contest.p99('fio'):.2f}",
        f"{contest.p50('kvtier'):.2f} / {contest.p99('kvtier'):.2f}",
        bar(p50s, 1.1, at_least=False) if single_get else f"{p50s:.2f}",
        f"{contest.cpu('fio'):.3f}",
        bar(contest.cpu("kvtier"), 0.20, at_least=False),
    ]
