"""kvtier's page store, with its own defaults."""

from __future__ import annotations

from collections.abc import Sequence

from kvtier_store import Get, Put, Status
from pagestore.client import Client
from pagestore.peers.adapter import Adapter, Item, Setting
from pagestore.traffic import HEAD, WAIT_S


class KvtierStore:
    def __init__(self, setting: Setting) -> None:
        self._client = Client(setting.folder / "store", setting.page_bytes, setting.pages)
        self._store = self._client.store
        self._pages = self._client.buffers(setting.slots)

    def page(self, slot: int) -> memoryview:
        return self._pages.of(slot)

    def put(self, batch: Sequence[Item]) -> None:
        pieces = self._pages.pieces
        self._store.submit_put([Put(i.slot, i.key, HEAD, pieces[i.slot]) for i in batch])
        ended = self._wait(len(batch))
        assert all(status is Status.OK for status in ended.values()), ended

    def get(self, batch: Sequence[Item]) -> list[memoryview | None]:
        pieces = self._pages.pieces
        self._store.submit_get([Get(i.slot, i.key, pieces[i.slot]) for i in batch])
        ended = self._wait(len(batch))
        return [self.page(i.slot) if ended[i.slot] is Status.OK else None for i in batch]

    def sync(self) -> None:
        self._store.flush()

    def close(self) -> None:
        self._client.close()

    def _wait(self, count: int) -> dict[int, Status]:
        ended: dict[int, Status] = {}
        while len(ended) < count:
            completions = self._store.wait(WAIT_S)
            assert completions, f"no request has ended for {WAIT_S} s"
            ended |= {each.ticket: each.status for each in completions}
        return ended


def open_adapter(setting: Setting) -> Adapter:
    return KvtierStore(setting)
