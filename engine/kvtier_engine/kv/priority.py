"""Pages of low priority go before the others, those of high priority after them."""

from __future__ import annotations

from collections.abc import Callable

from kvtier_engine.kv.policy import EvictionPolicy
from kvtier_engine.messages import Priority

_ORDER = (Priority.LOW, Priority.NORMAL, Priority.HIGH)  # in which they are evicted


class ByPriority:
    """An EvictionPolicy of three, one for each priority.

    A key is of normal priority when it enters. As long as all are, this does exactly what the
    one policy for them does.
    """

    def __init__(self, make: Callable[[], EvictionPolicy]) -> None:
        self._policies = {priority: make() for priority in _ORDER}
        self._normal = self._policies[Priority.NORMAL]
        self._priority_of: dict[bytes, Priority] = {}  # of those that are not normal

    @property
    def has_priorities(self) -> bool:
        return bool(self._priority_of)

    def priority(self, key: bytes) -> Priority:
        return self._priority_of.get(key, Priority.NORMAL)

    def set_priority(self, key: bytes, priority: Priority) -> None:
        """`key`, which is here, becomes the most recent of `priority` if it was of another."""
        if self.priority(key) is priority:
            return
        self.discard(key)
        self._policies[priority].insert(key)
        if priority is not Priority.NORMAL:
            self._priority_of[key] = priority

    def expect(self, key: bytes) -> None:
        self._normal.expect(key)

    def insert(self, key: bytes) -> None:
        self._normal.insert(key)

    def touch(self, key: bytes) -> None:
        self._of(key).touch(key)

    def reorder(self, key: bytes) -> None:
        self._of(key).reorder(key)

    def discard(self, key: bytes) -> None:
        self._of(key).discard(key)
        self._priority_of.pop(key, None)

    def oldest(self, count: int, is_idle: Callable[[bytes], bool]) -> list[bytes]:
        found: list[bytes] = []
        for policy in self._policies.values():
            if len(found) < count and len(policy):
                found += policy.oldest(count - len(found), is_idle)
        return found

    def evict(self, key: bytes) -> None:
        self._of(key).evict(key)
        self._priority_of.pop(key, None)

    def resize(self, capacity: int) -> None:
        for policy in self._policies.values():
            policy.resize(capacity)

    def __len__(self) -> int:
        return len(self._normal) + len(self._priority_of)

    def __contains__(self, key: object) -> bool:
        return key in self._normal or key in self._priority_of

    def _of(self, key: bytes) -> EvictionPolicy:
        if not self._priority_of:
            return self._normal
        return self._policies[self.priority(key)]


def highest(one: Priority, other: Priority) -> Priority:
    return max(one, other, key=_ORDER.index)
