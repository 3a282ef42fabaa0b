"""Places of a tier that are not in use, of a tier whose size may change."""

from __future__ import annotations

from collections.abc import Container


class FreeList:
    """Numbers 0 to `capacity` - 1, one for each place that the tier has memory for. Those below
    `limit` may be used; one above it that is given back retires until the limit rises."""

    def __init__(self, capacity: int, in_use: Container[int] = ()) -> None:
        self.capacity = capacity
        self.limit = capacity
        self._free = [place for place in range(capacity - 1, -1, -1) if place not in in_use]
        self._retired: set[int] = set()
        self.places_outside: set[int] = set()  # in use above the limit

    def __len__(self) -> int:
        """Places that `take` can give."""
        return len(self._free)

    @property
    def used(self) -> int:
        return self.capacity - len(self._free) - len(self._retired)

    def take(self) -> int:
        return self._free.pop()

    def give_back(self, place: int) -> None:
        if place < self.limit:
            self._free.append(place)
        else:
            self.places_outside.discard(place)
            self._retired.add(place)

    def resize(self, limit: int) -> None:
        assert 0 <= limit <= self.capacity
        self.limit = limit
        unused = self._retired.union(self._free)
        self._free = sorted((place for place in unused if place < limit), reverse=True)
        self._retired = {place for place in unused if place >= limit}
        self.places_outside = set(range(limit, self.capacity)) - self._retired

    def check(self, used: set[int]) -> None:
        """Raises AssertionError unless every place is in use, free or retired, and but once."""
        free = set(self._free)
        assert len(free) == len(self._free), "a place is free twice"
        assert not used & free and not used & self._retired, "a place in use is free"
        assert all(place < self.limit for place in free)
        assert all(place >= self.limit for place in self._retired)
        assert self.places_outside == {place for place in used if place >= self.limit}
        assert used | free | self._retired == set(range(self.capacity)), "a place was lost"
