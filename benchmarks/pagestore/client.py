"""kvtier's page store, driven with a set number of requests in flight."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kvtier_store import DirectorySpec, Store, StoreOptions
from pagestore.memory import Pages
from pagestore.traffic import Traffic
from pagestore.turn import Turn, measured

NAMESPACE = b"benchmark"
IN_FLIGHT_MAX = 16  # puts, in any benchmark
BLOCK_BYTES = 4096  # header, and what payloads are padded to
JOURNAL_BYTES = 256  # a slot's share of two journals
FIXED_BYTES = 1 << 20  # superblock, lock and the journals' slack, rounded up


class Client:
    """A store of at least `slots` pages in each folder, and the buffers that it is used through."""

    huge = True  # buffers on huge pages; else as an arena's are

    def __init__(
        self, folders: Path | Sequence[Path], page_bytes: int, slots: int, **options: Any
    ) -> None:
        self.page_bytes, self.slots = page_bytes, slots
        self._folders = [folders] if isinstance(folders, Path) else folders
        self._written = 0
        self._random = random.Random(slots)
        self._buffers: dict[int, Pages] = {}
        self._open(options)

    def _open(self, options: dict[str, Any]) -> None:
        self.options = StoreOptions(**options)
        padded = -(-self.page_bytes // BLOCK_BYTES) * BLOCK_BYTES
        capacity = self.slots * (BLOCK_BYTES + padded + JOURNAL_BYTES) + FIXED_BYTES
        self.store = Store.open(
            [DirectorySpec(str(folder), capacity) for folder in self._folders],
            page_bytes=self.page_bytes,
            namespace=NAMESPACE,
            options=self.options,
        )

    def reopen(self, **options: Any) -> None:
        self.store.close()
        self._open(options)

    def close(self) -> None:
        self.store.close()

    @property
    def write_depth(self) -> int:
        """Pages that the store writes at once."""
        return self.options.write_depth

    def buffers(self, count: int) -> Pages:
        """The same at every call, so that their memory is touched once."""
        if count not in self._buffers:
            self._buffers[count] = Pages(self.page_bytes, count, on_huge=self.huge)
        return self._buffers[count]

    def borrow_buffers(self, other: Client) -> None:
        """Memory that another client has touched."""
        self._buffers = other._buffers

    def fill(self) -> None:
        """Puts pages until every slot has one."""
        self.put(self.store.stats().capacity_pages, self.write_depth + 2)

    def new_key(self) -> bytes:
        self._written += 1
        return key(self._written - 1)

    def recent_key(self) -> bytes:
        """Of a page at random that was put lately and is not the next to be evicted."""
        last = self._written - IN_FLIGHT_MAX  # later ones may still be on their way
        return key(self._random.randrange(last - self.slots // 2, last))

    def put(self, count: int, depth: int) -> Turn:
        """New pages, and a flush that counts."""
        pages = self.buffers(depth)
        traffic, turn = Traffic(self.store, pages), Turn()
        keys = [self.new_key() for _ in range(count)]
        with measured(turn):
            self._run(traffic, traffic.put, keys, turn)
            self.store.flush()
        return turn

    def get(self, count: int, depth: int) -> Turn:
        """Pages at random, no page twice unless there are too few."""
        pages = self.buffers(depth)
        traffic, turn = Traffic(self.store, pages), Turn()
        keys = self._random_keys(count)
        with measured(turn):
            self._run(traffic, traffic.get, keys, turn)
        return turn

    def _random_keys(self, count: int) -> list[bytes]:
        keys = [key(number) for number in range(self._written)]
        there = self.store.contains(keys)
        live = [each for each, is_there in zip(keys, there, strict=True) if is_there]
        if count > len(live):
            return self._random.choices(live, k=count)
        return self._random.sample(live, count)

    def _run(
        self,
        traffic: Traffic,
        begin: Callable[[int, bytes], None],
        keys: Sequence[bytes],
        turn: Turn,
    ) -> None:
        waiting = iter(keys)
        for buffer, each in zip(range(traffic.buffers), waiting, strict=False):
            begin(buffer, each)
        while traffic.in_flight:
            for ended in traffic.wait():
                turn.latencies_s.append(ended.latency_s)
                turn.payload_bytes += self.page_bytes
                if (following := next(waiting, None)) is not None:
                    begin(ended.buffer, following)


def key(number: int) -> bytes:
    return hashlib.blake2b(number.to_bytes(8, "little"), digest_size=16).digest()
