"""A page store of small pages, used one request at a time."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kvtier_store import DirectorySpec, Get, Put, Status, Store, StoreOptions

PAGE_BYTES = 5000  # two blocks, the second not full
SLOT_BYTES = 4096 + 8192
NAMESPACE = b"test"
ROOT = bytes(16)


def key(i: int) -> bytes:
    return hashlib.blake2b(b"key %d" % i, digest_size=16).digest()


def page(i: int) -> bytes:
    """The page that always belongs to `key(i)`."""
    return hashlib.shake_128(b"page %d" % i).digest(PAGE_BYTES)


def capacity(pages: int, slot_bytes: int = SLOT_BYTES) -> int:
    """Bytes in which just `pages` fit, beside journal and superblock."""
    fixed = 2 * 4096 + 8192 + 2 * (64 + (1024 + 600) * 64)
    return fixed + pages * (slot_bytes + 256)


def open_store(*folders: Path, pages: int | Sequence[int] = 16, **options: Any) -> Store:
    """`pages`: in each of the folders, or for each of them."""
    options = {"reserve_bytes": 0, "probe_interval_s": 0.02} | options
    counts = [pages] * len(folders) if isinstance(pages, int) else pages
    specs = [
        DirectorySpec(str(folder), capacity(count))
        for folder, count in zip(folders, counts, strict=True)
    ]
    return Store.open(
        specs, page_bytes=PAGE_BYTES, namespace=NAMESPACE, options=StoreOptions(**options)
    )


def wait_one(store: Store) -> Status:
    (ended,) = store.wait(60, limit=1)
    return ended.status


def put(store: Store, i: int, parent: int | None = None) -> Status:
    memory = ctypes.create_string_buffer(page(i), PAGE_BYTES)
    above = ROOT if parent is None else key(parent)
    store.submit_put([Put(i, key(i), above, [(ctypes.addressof(memory), PAGE_BYTES)])])
    return wait_one(store)


def get(store: Store, i: int) -> Status:
    """Fails if the store says OK and gives any bytes but the key's page."""
    memory = ctypes.create_string_buffer(PAGE_BYTES)
    store.submit_get([Get(i, key(i), [(ctypes.addressof(memory), PAGE_BYTES)])])
    status = wait_one(store)
    assert status is not Status.OK or memory.raw == page(i), f"wrong bytes for key {i}"
    return status


def put_all(store: Store, numbers: Sequence[int]) -> None:
    for i in numbers:
        assert put(store, i) is Status.OK
