"""Requests in flight on a page store, each through a buffer of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass

from kvtier_store import Get, Put, Status, Store
from pagestore.memory import Pages

HEAD = bytes(16)  # the parent of a chain's head
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Ended:
    buffer: int
    latency_s: float


class Traffic:
    """A buffer's number is the ticket of the request that uses it. Every get is verified: it must
    bring the page that was put under its key."""

    def __init__(self, store: Store, pages: Pages) -> None:
        self._store, self._pages = store, pages
        self._begun = [0.0] * pages.count
        self._wanted: list[bytes | None] = [None] * pages.count  # None: a put
        self.buffers = pages.count
        self.in_flight = 0

    def put(self, buffer: int, key: bytes) -> None:
        """A page that differs from every other."""
        self._pages.stamp(buffer, key)
        self._begin(buffer, None)
        self._store.submit_put([Put(buffer, key, HEAD, self._pages.pieces[buffer])])

    def get(self, buffer: int, key: bytes) -> None:
        self._pages.wipe(buffer)
        self._begin(buffer, key)
        self._store.submit_get([Get(buffer, key, self._pages.pieces[buffer])])

    def wait(self) -> list[Ended]:
        """What has ended, one request at least."""
        completions = self._store.wait(WAIT_S)
        now = time.perf_counter()
        assert completions, f"no request has ended for {WAIT_S} s"
        self.in_flight -= len(completions)
        for completion in completions:
            wanted = self._wanted[completion.ticket]
            what = "put" if wanted is None else "get"
            assert completion.status is Status.OK, f"a {what} ended as {completion.status}"
            if wanted is not None:
                assert self._pages.holds(completion.ticket, wanted), "a get brought another page"
        return [Ended(each.ticket, now - self._begun[each.ticket]) for each in completions]

    def drain(self) -> None:
        while self.in_flight:
            self.wait()

    def _begin(self, buffer: int, wanted: bytes | None) -> None:
        self.in_flight += 1
        self._wanted[buffer] = wanted
        self._begun[buffer] = time.perf_counter()
