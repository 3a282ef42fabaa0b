"""Which pages one session alone has used: those that can go when it ends."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable

KEYS_MAX = 100_000  # remembered, over all sessions


class Sessions:
    """Knows keys and nothing of tiers.

    A page is a session's own if the session was the first to compute it and nobody else has
    used it since. Who uses a page uses its parents too, so a session's own pages are the tails
    of its chains. Beyond `keys_max` pages, those of the session that was silent longest are
    taken for shared.
    """

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._own: OrderedDict[Hashable, dict[bytes, None]] = OrderedDict()  # silent longest first
        self._owner: dict[bytes, Hashable] = {}

    @property
    def pages(self) -> int:
        return len(self._owner)

    def __len__(self) -> int:
        """Sessions that have pages of their own."""
        return len(self._own)

    def computed(self, session: Hashable, key: bytes) -> None:
        """`session` has computed a page that was in no tier."""
        self._disown(key)
        self._own.setdefault(session, {})[key] = None
        self._own.move_to_end(session)
        self._owner[key] = session
        while len(self._owner) > self._keys_max:
            self._disown(next(iter(next(iter(self._own.values())))))

    def used(self, session: Hashable | None, keys: Iterable[bytes]) -> None:
        """Pages were found in a cache or stored in it, for `session` or for a request without."""
        for key in keys:
            if key in self._owner and (session is None or self._owner[key] != session):
                self._disown(key)
        if session in self._own:
            self._own.move_to_end(session)

    def end(self, session: Hashable) -> list[bytes]:
        """Forgets the session; its own pages, each before its parent."""
        own = self._own.pop(session, {})
        for key in own:
            del self._owner[key]
        return list(reversed(own))

    def check(self) -> None:
        """Raises AssertionError if the two sides disagree."""
        assert self._owner == {key: name for name, own in self._own.items() for key in own}
        assert all(self._own.values()), "a session without pages is kept"

    def _disown(self, key: bytes) -> None:
        owner = self._owner.pop(key, None)
        if owner is not None:
            own = self._own[owner]
            del own[key]
            if not own:
                del self._own[owner]
