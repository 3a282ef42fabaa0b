"""How many reads at once, and by which I/O engine: both defaults are measured choices."""

from __future__ import annotations

from functools import partial

from harness import table

from kvtier_store import IoEngine
from pagestore import fio
from pagestore.scope import Scope
from pagestore.slots import Slots
from pagestore.turn import MIB, Contest, Turn

DEPTHS = (1, 2, 4, 8, 16)
WRITERS = 2
ENGINES = {"kvtier threads": IoEngine.THREADS, "kvtier io_uring": IoEngine.IO_URING}
FIO_ENGINES = {"fio psync": "psync", "fio io_uring": "io_uring"}

HEADER = ("page", "reads at once", *FIO_ENGINES, *ENGINES)


def run(scope: Scope) -> str:
    rows = []
    for page_bytes in scope.page_sizes:
        with Slots.made(page_bytes, scope) as slots:
            for depth in DEPTHS:
                contest = Contest(_sides(slots, depth)).run(scope.rounds)
                rows.append(_row(page_bytes, depth, contest))
    return table(HEADER, rows) + "\n\nEach: GB/s, p50 / p99 ms, CPU s/GiB."


def _sides(slots: Slots, depth: int) -> dict[str, partial[Turn]]:
    sides = {name: partial(_fio, slots, depth, engine) for name, engine in FIO_ENGINES.items()}
    return sides | {
        name: partial(_kvtier, slots, depth, engine) for name, engine in ENGINES.items()
    }


def _fio(slots: Slots, depth: int, engine: str) -> Turn:
    return fio.run(slots.job("randread", depth=depth, engine=engine))


def _kvtier(slots: Slots, depth: int, engine: IoEngine) -> Turn:
    slots.client.reopen(io_engine=engine, read_depth=depth, write_depth=WRITERS)
    return slots.client.get(slots.count, depth)


def _row(page_bytes: int, depth: int, contest: Contest) -> list[str]:
    cells = [
        f"{contest.rate(name):.2f}, {contest.p50(name):.2f} / {contest.p99(name):.2f}, "
        f"{contest.cpu(name):.2f}"
        for name in contest.sides
    ]
    return [f"{page_bytes // MIB} MiB", str(depth), *cells]
