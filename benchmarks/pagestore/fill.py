"""Why slots are preallocated and recycled: the rate of puts into each kind of space."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness import spread, table

from pagestore import fio
from pagestore.client import Client
from pagestore.scope import Scope
from pagestore.turn import MIB, Contest, Turn

PAGE_BYTES = 4 * MIB
DEPTH = 4

HEADER = ("what is written to", "GB/s", "spread", "of overwriting", "CPU s/GiB")


class Fill:
    """One turn's worth of pages, written to each kind of space."""

    def __init__(self, folder: Path, count: int, huge: bool) -> None:
        self.folder, self.count = folder, count
        self.overwritten = folder / "overwritten"
        fio.lay_out(self.overwritten, PAGE_BYTES, count)
        self.full = Client(folder / "full", PAGE_BYTES, count)
        self.full.huge = huge
        self.full.fill()

    def fresh_file(self, fallocate: str) -> Turn:
        file = self.folder / "fresh"
        turn = fio.run(self._job(file, fallocate))
        file.unlink()
        os.sync()  # what removing the file costs is nobody's turn
        return turn

    def overwriting(self) -> Turn:
        return fio.run(self._job(self.overwritten, "none"))

    def fresh_store(self) -> Turn:
        folder = self.folder / "store"
        client = Client(folder, PAGE_BYTES, self.count)
        client.borrow_buffers(self.full)
        turn = client.put(self.count, DEPTH)
        client.store.close()
        shutil.rmtree(folder)
        os.sync()
        return turn

    def full_store(self) -> Turn:
        return self.full.put(self.count, DEPTH)

    def _job(self, file: Path, fallocate: str) -> fio.Job:
        job = fio.Job(file, "write", PAGE_BYTES, self.count, depth=DEPTH, fallocate=fallocate)
        return replace(job, huge=self.full.huge)


def run(scope: Scope) -> str:
    with tempfile.TemporaryDirectory(dir=scope.folder) as folder:
        fill = Fill(Path(folder), scope.count(PAGE_BYTES), scope.huge)
        contest = Contest(
            {
                "fio, a file that grows": partial(fill.fresh_file, "none"),
                "fio, a preallocated file": partial(fill.fresh_file, "native"),
                "fio, overwriting a file": fill.overwriting,
                "kvtier, an empty store": fill.fresh_store,
                "kvtier, a full store": fill.full_store,
            }
        ).run(scope.rounds)
        fill.full.close()
    return table(HEADER, [_row(name, contest) for name in contest.sides])


def _row(name: str, contest: Contest) -> list[str]:
    rates = [turn.gb_per_s for turn in contest.turns[name]]
    share = contest.ratio(name, "fio, overwriting a file", lambda turn: turn.gb_per_s)
    return [
        name,
        f"{contest.rate(name):.2f}",
        spread(rates),
        f"{share:.2f}",
        f"{contest.cpu(name):.2f}",
    ]
