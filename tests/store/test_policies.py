"""Eviction and admission: a real trace through the real store, against a few lines of Python."""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.store_client import PAGE_BYTES, capacity, get, key, open_store, put, wait_one

from kvtier_store import (
    DirectorySpec,
    Eviction,
    Get,
    Put,
    Status,
    Store,
    StoreError,
    StoreOptions,
)

TRACE = Path(__file__).parents[1] / "data/traces/mooncake_conversation_500.jsonl.gz"
BLOCK_TOKENS = 512
SMALL_PAGE_BYTES = 32
HEAD = bytes(16)


def chains() -> list[list[int]]:
    """The full blocks of each request."""
    with gzip.open(TRACE, "rt") as lines:
        requests = [json.loads(line) for line in lines]
    return [each["hash_ids"][: each["input_length"] // BLOCK_TOKENS] for each in requests]


def name(block: int) -> bytes:
    return hashlib.blake2b(b"%d" % block, digest_size=16).digest()


class Replay:
    """The engine's way with a chain: read the hits, write the misses, touch tail first."""

    def __init__(self, folder: Path, pages: int, **options: object) -> None:
        self.store = Store.open(
            [DirectorySpec(str(folder), capacity(pages, 2 * 4096))],
            page_bytes=SMALL_PAGE_BYTES,
            namespace=b"trace",
            options=StoreOptions(reserve_bytes=0, commit_interval_s=3600, **options),
        )
        assert self.store.stats().capacity_pages == pages
        self._memory = ctypes.create_string_buffer(SMALL_PAGE_BYTES)
        self._pieces = [(ctypes.addressof(self._memory), SMALL_PAGE_BYTES)]
        self.written = 0

    def request(self, chain: list[int]) -> int:
        """How many leading blocks hit."""
        keys = [name(block) for block in chain]
        hits = self.store.longest_prefix(keys)
        for each in keys[:hits]:
            self.store.submit_get([Get(0, each, self._pieces)])
            assert wait_one(self.store) is Status.OK
        for i in range(hits, len(keys)):
            parent = keys[i - 1] if i else HEAD
            self.store.submit_put([Put(0, keys[i], parent, self._pieces, len(keys))])
            self.written += wait_one(self.store) is Status.OK
        self.store.touch(keys[::-1])
        return hits


def leaf_only_lru(capacity: int) -> Iterator[int]:
    """Hits of each request, by the plainest code there is: yields after each `send`."""
    last_use: dict[int, int] = {}
    parent: dict[int, int | None] = {}
    clock = 0
    hits = 0
    while True:
        chain = yield hits
        hits = next((i for i, block in enumerate(chain) if block not in last_use), len(chain))
        for i, block in enumerate(chain):
            if block not in last_use and len(last_use) == capacity:
                inner = set(parent.values())
                victim = min((b for b in last_use if b not in inner), key=last_use.__getitem__)
                del last_use[victim], parent[victim]
            clock += 1
            last_use[block] = clock
            parent.setdefault(block, chain[i - 1] if i else None)
        for block in reversed(chain):
            clock += 1
            if block in last_use:
                last_use[block] = clock


def test_lru_is_the_leaf_only_lru_hit_by_hit(tmp_path):
    pages = 400
    replay = Replay(tmp_path, pages)
    reference = leaf_only_lru(pages)
    next(reference)
    total = 0
    for number, chain in enumerate(chains()):
        hits = replay.request(chain)
        assert hits == reference.send(chain), f"request {number}"
        total += hits
    assert total > 100
    assert replay.store.stats().evicted > pages
    replay.store.close()


@pytest.mark.parametrize("pages", [50, 2000])
def test_keeping_what_was_reused_gains_hits(tmp_path, pages):
    hits = {}
    for eviction in (Eviction.LRU, Eviction.KEEP_REUSED):
        folder = tmp_path / eviction.name
        folder.mkdir()
        replay = Replay(folder, pages, eviction=eviction)
        hits[eviction] = sum(replay.request(chain) for chain in chains())
        replay.store.close()
    assert hits[Eviction.KEEP_REUSED] > hits[Eviction.LRU]


def test_admission_saves_writes(tmp_path):
    replay = Replay(tmp_path, 2000, admit_sightings_min=2)
    unique = len({block for chain in chains() for block in chain})
    for chain in chains():
        replay.request(chain)
    stats = replay.store.stats()
    assert stats.not_admitted >= unique - replay.written
    assert replay.written < unique / 2
    assert stats.hits > 0
    replay.store.close()


def test_a_page_is_written_at_its_second_offer_or_with_a_long_chain(tmp_path):
    store = open_store(tmp_path, admit_sightings_min=2, admit_chain_pages_min=4)
    assert put(store, 1) is Status.NOT_ADMITTED
    assert store.stats().not_admitted == 1
    assert store.contains([key(1)]) == [False]
    assert put(store, 1) is Status.OK
    assert get(store, 1) is Status.OK
    memory = ctypes.create_string_buffer(PAGE_BYTES)
    for chain_pages, status in ((3, Status.NOT_ADMITTED), (4, Status.OK)):
        pieces = [(ctypes.addressof(memory), PAGE_BYTES)]
        store.submit_put([Put(0, key(10 + chain_pages), HEAD, pieces, chain_pages)])
        assert wait_one(store) is status
    store.close()


@pytest.mark.parametrize("count", [0, 16])
def test_bounds_of_admission(tmp_path, count):
    with pytest.raises(StoreError, match=f"admit_sightings_min is {count}: it must be 1 to 15"):
        open_store(tmp_path, admit_sightings_min=count)
