"""Pages that stay in L2 and L3 until they are unpinned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvtier_engine.kv.tiers import Tiers


class Pins:
    """Pages that somebody wants kept, there or not. A page is pinned or not, however often that
    was asked for."""

    def __init__(self, tiers: Tiers, *, reuse: bool) -> None:
        self._tiers = tiers
        self._reuse = reuse
        self._tenant_of: dict[bytes, str] = {}
        self._on_disk: set[bytes] = set()  # pinned in the store as well

    def __len__(self) -> int:
        return len(self._tenant_of)

    @property
    def pages_max(self) -> int:
        """A quarter of L2: requests need the rest."""
        host = self._tiers.host
        return host.slots // 4 if host is not None and self._reuse else 0

    def has(self, key: bytes) -> bool:
        return key in self._tenant_of

    def keys(self, tenant: str | None = None) -> list[bytes]:
        """Of one tenant, or of all."""
        return [key for key, whose in self._tenant_of.items() if tenant in (None, whose)]

    def add(self, keys: Sequence[bytes], tenant: str) -> str | None:
        """Pins all of `keys`, or none and says why."""
        host = self._tiers.host
        if host is None or not self.pages_max:
            return "nothing can be pinned here: there is no L2, or too small a one, or no reuse"
        more = [key for key in keys if key not in self._tenant_of]
        if len(self._tenant_of) + len(more) > self.pages_max:
            return (
                f"{len(more)} more pages would be pinned, {len(self._tenant_of)} are; at most "
                f"{self.pages_max}, a quarter of L2, may be: unpin others first"
            )
        for key in more:
            self._tenant_of[key] = tenant
            host.keep(key)
        there = self._tiers.on_disk(more)
        self.on_disk([key for key, is_there in zip(more, there, strict=True) if is_there])
        if self._tiers.saver is not None:
            self._tiers.saver.kept(
                key for key, is_there in zip(more, there, strict=True) if not is_there
            )
        return None

    def on_disk(self, keys: Iterable[bytes]) -> None:
        """Pages are on disk now: those that are pinned stay there."""
        new = [key for key in keys if key in self._tenant_of and key not in self._on_disk]
        if new and self._tiers.disk is not None:
            self._on_disk.update(new)
            self._tiers.disk.pin(new)

    def disk_came(self) -> None:
        """A disk was attached: what it has of the pinned pages stays there, the rest goes there."""
        self._on_disk.clear()
        keys = self.keys()
        there = self._tiers.on_disk(keys)
        self.on_disk([key for key, is_there in zip(keys, there, strict=True) if is_there])

    def remove(self, keys: Iterable[bytes]) -> int:
        """Unpins those of `keys` that are pinned; how many."""
        gone = [key for key in keys if self._tenant_of.pop(key, None) is not None]
        for key in gone:
            if self._tiers.host is not None:
                self._tiers.host.let_go(key)
        on_disk = [key for key in gone if key in self._on_disk]
        self._on_disk.difference_update(on_disk)
        if on_disk and self._tiers.disk is not None:
            self._tiers.disk.unpin(on_disk)
        return len(gone)
