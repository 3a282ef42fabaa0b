"""A trace through the real page store; a page is a few bytes."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path

from kvtier_store import DirectorySpec, Eviction, Get, Put, Status, Store, StoreOptions, inspect
from tracereplay.trace import Chain

PAGE_BYTES = 16
HEAD = bytes(16)


def store_hits(chains: list[Chain], pages: int, eviction: Eviction, disk: Path | None) -> int:
    """Blocks found."""
    with tempfile.TemporaryDirectory(dir=disk) as folder:
        store = _open(Path(folder), pages, eviction)
        memory = ctypes.create_string_buffer(PAGE_BYTES)
        pieces = [(ctypes.addressof(memory), PAGE_BYTES)]
        hits = sum(_request(store, chain, pieces) for chain in chains)
        store.close()
    return hits


def _open(folder: Path, pages: int, eviction: Eviction) -> Store:
    """A store of just so many pages: what one of fewer takes tells what a page takes."""
    options = StoreOptions(eviction=eviction, reserve_bytes=0, commit_interval_s=3600)
    small, store = folder / "small", folder / "l3"
    Store.open([DirectorySpec(str(small), 1 << 22)], page_bytes=PAGE_BYTES, namespace=b"t").close()
    fitting = inspect(str(small)).fitting_capacity_bytes
    slot_bytes = 2 * 4096 + 256
    few = (1 << 22) // slot_bytes
    spec = DirectorySpec(str(store), fitting + (pages - few) * slot_bytes + slot_bytes * 64)
    opened = Store.open([spec], page_bytes=PAGE_BYTES, namespace=b"t", options=options)
    surplus = opened.stats().capacity_pages - pages
    opened.close()
    spec = DirectorySpec(str(store), spec.capacity_bytes - surplus * slot_bytes)
    opened = Store.open([spec], page_bytes=PAGE_BYTES, namespace=b"t", options=options)
    assert opened.stats().capacity_pages == pages
    return opened


def _request(store: Store, chain: Chain, pieces: list[tuple[int, int]]) -> int:
    """Reads the hits, writes the misses, then touches the chain tail first."""
    hits = store.longest_prefix(chain)
    if hits:
        store.submit_get([Get(0, key, pieces) for key in chain[:hits]])
        _wait(store, hits)
    for i in range(hits, len(chain)):
        store.submit_put([Put(0, chain[i], chain[i - 1] if i else HEAD, pieces, len(chain))])
        _wait(store, 1)
    store.touch(chain[::-1])
    return hits


def _wait(store: Store, count: int) -> None:
    while count:
        ended = store.wait(60)
        assert ended
        assert all(each.status in (Status.OK, Status.ALREADY_PRESENT) for each in ended)
        count -= len(ended)
