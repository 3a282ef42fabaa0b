"""Single gets into memory that goes round, as an arena's does, against one preadv of the slot.

fio reads into the same few buffers for ever, which nobody else touches: they stay in the cache of
whoever fills them. An arena's page is filled once in a long time, and a store that checks its
pages reads each. Here all sides use the same ring of pages, far larger than any cache.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness import table

from kvtier_store import Get, Status, crc32c
from pagestore.client import BLOCK_BYTES, Client
from pagestore.memory import Pages
from pagestore.scope import Scope
from pagestore.turn import MIB, Contest, Turn, measured

RING_BYTES = 512 * MIB
WAIT_S = 60.0


class Ring:
    """Takes single reads in turn into page after page of the ring."""

    def __init__(self, client: Client, folder: Path, count: int) -> None:
        self._client, self._count = client, count
        self._pages = Pages(client.page_bytes, RING_BYTES // client.page_bytes, on_huge=client.huge)
        self._next = 0
        self._random = random.Random(1)
        self._file = os.open(folder / "segment-00000", os.O_RDONLY | os.O_DIRECT)
        self._slot_bytes = client.page_bytes + BLOCK_BYTES
        self._slots = os.fstat(self._file).st_size // self._slot_bytes

    def close(self) -> None:
        os.close(self._file)

    def raw(self, check: bool) -> Turn:
        """The slot's payload by one call; with a checksum after it if `check`."""
        return self._turn(partial(self._read_slot, check))

    def store(self) -> Turn:
        return self._turn(self._get)

    def _turn(self, read: Callable[[int], None]) -> Turn:
        turn = Turn()
        with measured(turn):
            for _ in range(self._count):
                self._next = (self._next + 1) % self._pages.count
                begun = time.perf_counter()
                read(self._next)
                turn.latencies_s.append(time.perf_counter() - begun)
                turn.payload_bytes += self._client.page_bytes
        return turn

    def _read_slot(self, check: bool, place: int) -> None:
        page = self._pages.of(place)
        slot = self._random.randrange(self._slots)
        moved = os.preadv(self._file, [page], slot * self._slot_bytes + BLOCK_BYTES)
        assert moved == len(page), "a slot is short"
        if check:
            crc32c(page)

    def _get(self, place: int) -> None:
        store = self._client.store
        store.submit_get([Get(1, self._client.recent_key(), self._pages.pieces[place])])
        (ended,) = store.wait(WAIT_S)
        assert ended.status is Status.OK, f"a get ended as {ended.status}"


def run(scope: Scope) -> str:
    rows = []
    for page_bytes in scope.page_sizes:
        with tempfile.TemporaryDirectory(dir=scope.folder) as name:
            rows.append(_row(page_bytes, _contest(Path(name), page_bytes, scope)))
    header = ("page", "preadv p50 ms", "with checksum", "kvtier", "ratio to preadv", "to checked")
    return table(header, rows)


def _contest(folder: Path, page_bytes: int, scope: Scope) -> Contest:
    client = Client(folder, page_bytes, scope.slots(page_bytes))
    client.huge = scope.huge
    try:
        client.fill()
        ring = Ring(client, folder, scope.count(page_bytes))
        sides = {
            "preadv": partial(ring.raw, False),
            "checked": partial(ring.raw, True),
            "kvtier": ring.store,
        }
        contest = Contest(sides).run(scope.rounds)
        ring.close()
    finally:
        client.close()
    return contest


def _row(page_bytes: int, contest: Contest) -> list[str]:
    return [
        f"{page_bytes // MIB} MiB",
        *(f"{contest.p50(side):.2f}" for side in contest.sides),
        *(
            f"{contest.ratio('kvtier', side, lambda turn: turn.p50_ms):.2f}"
            for side in ("preadv", "checked")
        ),
    ]
