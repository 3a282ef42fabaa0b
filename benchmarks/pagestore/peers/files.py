"""A file for each page, read and written past the page cache: the simplest store that is fast.

Written under another name and renamed; no header, no checksum, no capacity.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pagestore import huge
from pagestore.peers.adapter import Adapter, Item, Setting, sync_file_system

THREADS = 4


class Files:
    def __init__(self, setting: Setting) -> None:
        self._folder = setting.folder
        for number in range(256):
            (self._folder / f"{number:02x}").mkdir(exist_ok=True)
        self._pages = huge.buffers(setting.page_bytes, setting.slots)
        self._pool = ThreadPoolExecutor(THREADS)

    def page(self, slot: int) -> memoryview:
        return self._pages[slot]

    def put(self, batch: Sequence[Item]) -> None:
        list(self._pool.map(self._put, batch))

    def get(self, batch: Sequence[Item]) -> list[memoryview | None]:
        if len(batch) == 1:
            return [self._get(batch[0])]
        return list(self._pool.map(self._get, batch))

    def sync(self) -> None:
        sync_file_system(self._folder)

    def close(self) -> None:
        self._pool.shutdown()

    def _path(self, item: Item) -> Path:
        name = item.key.hex()
        return self._folder / name[:2] / name

    def _put(self, item: Item) -> None:
        path = self._path(item)
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DIRECT, 0o600)
        try:
            page = self._pages[item.slot]
            written = os.write(descriptor, page)
            assert written == len(page), f"only {written} bytes of {path} were written"
        finally:
            os.close(descriptor)
        os.replace(new, path)

    def _get(self, item: Item) -> memoryview | None:
        page = self._pages[item.slot]
        try:
            descriptor = os.open(self._path(item), os.O_RDONLY | os.O_DIRECT)
        except FileNotFoundError:
            return None
        try:
            return page if os.readv(descriptor, [page]) == len(page) else None
        finally:
            os.close(descriptor)


def open_adapter(setting: Setting) -> Adapter:
    return Files(setting)
