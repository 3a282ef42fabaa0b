"""Stores and requests for the cases."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.engine_process import wait_for
from support.store_client import PAGE_BYTES, ROOT, key, open_store, page, put_all

from kvtier_store import Get, IoEngine, Put, Status, Store, StoreError

PAGES = range(8)
IN_TIME_S = 60.0  # generous: what it bounds takes milliseconds


def threads(folder: Path, **options: Any) -> Store:
    """io_uring does not go through libc, so that nothing could be put in its way."""
    return open_store(folder, **({"io_engine": IoEngine.THREADS} | options))


def filled(folder: Path, **options: Any) -> Store:
    store = threads(folder, **options)
    put_all(store, PAGES)
    store.flush()
    return store


def in_time(call: Callable[[], Any]) -> Any:
    """The call's result; fails if it does not return while the disk stands still."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(IN_TIME_S)
    assert not thread.is_alive(), "the caller is held up"
    return results[0]


def until_in_use(store: Store) -> None:
    wait_for(lambda: not store.stats().degraded, "the store to come back")


def opens(folder: Path) -> bool:
    try:
        threads(folder).close()
    except StoreError:
        return False
    return True


class Pages:
    """Requests whose memory lives as long as the test."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def get(self, i: int) -> Get:
        return Get(i, key(i), [self._memory(bytes(PAGE_BYTES))])

    def put(self, i: int) -> Put:
        return Put(i, key(i), ROOT, [self._memory(page(i))])

    def _memory(self, content: bytes) -> tuple[int, int]:
        self._kept.append(ctypes.create_string_buffer(content, PAGE_BYTES))
        return ctypes.addressof(self._kept[-1]), PAGE_BYTES


def statuses_of(store: Store, count: int) -> list[Status]:
    ended: list[Status] = []
    while len(ended) < count:
        found = store.wait(IN_TIME_S)
        assert found, "a request does not end"
        ended += [completion.status for completion in found]
    return ended
