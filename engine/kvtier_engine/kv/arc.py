"""ARC, the adaptive replacement cache (Megiddo and Modha, FAST '03), as an EvictionPolicy."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

_Keys = OrderedDict[bytes, None]  # oldest first


class Arc:
    """Pages used once and pages used again in two LRU lists, T1 and T2. The keys that each list
    lost last are remembered as its ghosts, in B1 and B2, and one that comes back says which list
    was too short.

    Differs from the paper in that the victim does not depend on the page that takes its place:
    the rule for |T1| = p and a page of B2 falls away. Steps of the target are whole pages.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._target = 0  # p: pages that T1 may keep
        self._recent: _Keys = OrderedDict()  # T1: used once
        self._frequent: _Keys = OrderedDict()  # T2: used again
        self._recent_ghosts: _Keys = OrderedDict()  # B1
        self._frequent_ghosts: _Keys = OrderedDict()  # B2
        self._returning: _Keys = OrderedDict()  # ghosts that are expected

    def expect(self, key: bytes) -> None:
        recent, frequent = self._recent_ghosts, self._frequent_ghosts
        if key in recent:
            del recent[key]
            step = max(1, len(frequent) // max(1, len(recent)))
            self._target = min(self._capacity, self._target + step)
        elif key in frequent:
            del frequent[key]
            step = max(1, len(recent) // max(1, len(frequent)))
            self._target = max(0, self._target - step)
        else:
            return
        self._returning[key] = None
        if len(self._returning) > self._capacity:  # some were expected and never came
            self._returning.popitem(last=False)

    def insert(self, key: bytes) -> None:
        assert key not in self, "a page entered its tier twice"
        self.expect(key)
        if key in self._returning:
            del self._returning[key]
            self._frequent[key] = None
        else:
            self._recent[key] = None
        self._forget_ghosts()

    def touch(self, key: bytes) -> None:
        if key in self._frequent:
            self._frequent.move_to_end(key)
        else:
            del self._recent[key]
            self._frequent[key] = None

    def reorder(self, key: bytes) -> None:
        self._list_of(key).move_to_end(key)

    def discard(self, key: bytes) -> None:
        del self._list_of(key)[key]

    def oldest(self, count: int, is_idle: Callable[[bytes], bool]) -> list[bytes]:
        recent = _oldest(self._recent, count, is_idle)
        frequent = _oldest(self._frequent, count, is_idle)
        left = len(self._recent)
        found: list[bytes] = []
        while len(found) < count and (recent or frequent):
            if recent and (left > self._target or not frequent):
                found.append(recent.popleft())
                left -= 1
            else:
                found.append(frequent.popleft())
        return found

    def evict(self, key: bytes) -> None:
        if key in self._recent:
            del self._recent[key]
            self._recent_ghosts[key] = None
        else:
            del self._frequent[key]
            self._frequent_ghosts[key] = None
        self._forget_ghosts()

    def resize(self, capacity: int) -> None:
        """A smaller tier may hold more pages than its capacity until they have been evicted."""
        self._capacity = capacity
        self._target = min(self._target, capacity)
        while len(self._returning) > capacity:
            self._returning.popitem(last=False)
        self._forget_ghosts()

    def __len__(self) -> int:
        return len(self._recent) + len(self._frequent)

    def __contains__(self, key: object) -> bool:
        return key in self._recent or key in self._frequent

    def check(self) -> None:
        """Raises AssertionError if a key is in two lists, or a list is longer than it may be."""
        lists = (self._recent, self._frequent, self._recent_ghosts, self._frequent_ghosts)
        total = sum(map(len, lists))
        assert len(set().union(*lists)) == total, "a key is in two lists"
        assert len(self) <= self._capacity, "more pages than the tier has"
        assert len(self._recent) + len(self._recent_ghosts) <= self._capacity
        assert total <= 2 * self._capacity, "too many ghosts"
        assert 0 <= self._target <= self._capacity
        assert len(self._returning) <= self._capacity, "expected pages are remembered for ever"

    def _list_of(self, key: bytes) -> _Keys:
        return self._recent if key in self._recent else self._frequent

    def _forget_ghosts(self) -> None:
        """|T1| + |B1| stays within the capacity, and all four lists within twice that."""
        while self._recent_ghosts and (
            len(self._recent) + len(self._recent_ghosts) > self._capacity
        ):
            self._recent_ghosts.popitem(last=False)
        while self._frequent_ghosts and (
            len(self) + len(self._recent_ghosts) + len(self._frequent_ghosts) > 2 * self._capacity
        ):
            self._frequent_ghosts.popitem(last=False)


def _oldest(keys: _Keys, count: int, is_idle: Callable[[bytes], bool]) -> deque[bytes]:
    """The oldest idle keys of one list; those met that are in use go to its young end."""
    found: deque[bytes] = deque()
    in_use: list[bytes] = []
    for key in keys:
        if len(found) == count:
            break
        (found if is_idle(key) else in_use).append(key)
    for key in in_use:
        keys.move_to_end(key)
    return found
