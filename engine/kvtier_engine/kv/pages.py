"""L1's page pool: free list, references, and the keys under which pages can be found."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Sequence

from kvtier_engine.kv.departures import Departures
from kvtier_engine.kv.free_list import FreeList
from kvtier_engine.kv.policy import EvictionPolicy


class PagePool:
    """Who holds each L1 page.

    A page is free, or held (references > 0), or cached (no reference, but found by its
    key until it is evicted). A held page may have a key too: others can then hold it as
    well. Bytes are not touched here.
    """

    def __init__(
        self, pages: int, policy: EvictionPolicy, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.departures = Departures(pages, clock())
        self._last_use = array("d", [0.0]) * pages
        self.policy = policy
        self._free = FreeList(pages)
        self._references = [0] * pages
        self._key_of: dict[int, bytes] = {}
        self._page_of: dict[bytes, int] = {}
        self._cached = 0

    @property
    def evictions(self) -> int:
        return self.departures.count

    @property
    def pages(self) -> int:
        """How many may be used."""
        return self._free.limit

    @property
    def capacity(self) -> int:
        """How many there is memory for."""
        return self._free.capacity

    @property
    def available(self) -> int:
        """Pages that `allocate` can hand out."""
        return len(self._free) + self._cached

    @property
    def held(self) -> int:
        return self._free.used - self._cached

    @property
    def outside(self) -> int:
        """Pages that are held although they may not be used any more."""
        return len(self._free.places_outside)

    def resize(self, pages: int) -> None:
        """So many pages may be used from now on. Those above are found no more, or requests would
        hand them on for ever; those that are held leave when they are let go (`outside` says how
        many they are)."""
        self._free.resize(pages)
        self.policy.resize(pages)
        for key, page in list(self._page_of.items()):
            if page >= pages:
                self._forget(key, page)

    @property
    def found(self) -> int:
        """Pages that can be found by their key."""
        return len(self._page_of)

    def find(self, key: bytes) -> int | None:
        """The page that holds `key`, if there is one."""
        return self._page_of.get(key)

    def is_cached(self, page: int) -> bool:
        """True if nobody holds the page: holding it takes it out of `available`."""
        return self._references[page] == 0 and page in self._key_of

    def is_held(self, key: bytes) -> bool:
        """True if somebody holds the page of `key`."""
        page = self._page_of.get(key)
        return page is not None and self._references[page] > 0

    def hold(self, pages: Iterable[int]) -> None:
        """Adds a reference to each page; it stays as it is until `release`."""
        for page in pages:
            if self._references[page] == 0:
                assert page in self._key_of, "a free page cannot be held: allocate it"
                self._cached -= 1
            self._references[page] += 1

    def allocate(self, count: int, keys: Iterable[bytes] = ()) -> list[int] | None:
        """`count` pages with one reference each and no key; None if so many are not there.
        `keys`: what they will be published under, as far as that is known."""
        if count > self.available:
            return None
        for key in keys:
            self.policy.expect(key)
        while len(self._free) < count:
            self._evict_one()
        pages = [self._free.take() for _ in range(count)]
        for page in pages:
            self._references[page] = 1
        return pages

    def publish(self, page: int, key: bytes) -> bool:
        """The held page now has all the bytes of `key`. False if another page has them already,
        or L1 has become smaller: then this one stays private to its holder."""
        assert self._references[page] > 0, "only a held page can be published"
        if key in self._page_of or page in self._key_of or page >= self.pages:
            return False
        self._page_of[key] = page
        self._key_of[page] = key
        self.policy.insert(key)
        self._last_use[page] = now = self._clock()
        self.departures.entered(key, now)
        return True

    def touch(self, keys: Sequence[bytes]) -> None:
        """A chain, head first, is used: those of its pages that are here."""
        now = self._clock()
        for key in reversed(keys):
            page = self._page_of.get(key)
            if page is not None:
                self._last_use[page] = now
                self.policy.touch(key)

    def reorder(self, keys: Sequence[bytes]) -> None:
        """A chain, head first, was used and has grown: puts its pages behind their parents."""
        now = self._clock()
        for key in reversed(keys):
            page = self._page_of.get(key)
            if page is not None:
                self._last_use[page] = now
                self.policy.reorder(key)

    def release(self, pages: Sequence[int]) -> None:
        """Drops one reference of each page. Pages with a key stay cached, the others are free."""
        for page in pages:
            assert self._references[page] > 0, "a page was released twice"
            self._references[page] -= 1
            if self._references[page]:
                continue
            if page in self._key_of:
                self._cached += 1
            else:
                self._free.give_back(page)

    def drop(self, key: bytes) -> None:
        """Forgets a page; nobody may hold it."""
        assert not self.is_held(key), "a held page cannot be dropped"
        page = self._page_of.get(key)
        if page is not None:
            self._forget(key, page)

    def forget(self) -> int:
        """Drops every key; cached pages become free. Returns how many keys there were."""
        gone = list(self._page_of.items())
        for key, page in gone:
            self._forget(key, page)
        return len(gone)

    def check(self) -> None:
        """Raises AssertionError if a page is lost or counted twice."""
        cached = {p for p in self._key_of if self._references[p] == 0}
        held = {p for p in range(self.capacity) if self._references[p] > 0}
        assert len(cached) == self._cached, "the count of cached pages is off"
        self._free.check(cached | held)
        assert {k: p for p, k in self._key_of.items()} == self._page_of
        assert len(self.policy) == len(self._page_of)

    def _forget(self, key: bytes, page: int) -> None:
        """The page is found no more; if nobody holds it, it is free."""
        del self._page_of[key]
        del self._key_of[page]
        self.policy.discard(key)
        if self._references[page] == 0:
            self._cached -= 1
            self._free.give_back(page)

    def _evict_one(self) -> None:
        found = self.policy.oldest(1, lambda k: self._references[self._page_of[k]] == 0)
        assert found, "a cached page was counted that the policy does not know"
        [key] = found
        self.policy.evict(key)
        page = self._page_of.pop(key)
        del self._key_of[page]
        self._cached -= 1
        self._free.give_back(page)
        self.departures.evicted(key, self._last_use[page], self._clock())
