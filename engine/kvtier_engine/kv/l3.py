"""The way to and from L3, which may come and go while the engine runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.kv.hints import Hints
from kvtier_engine.kv.rates import LoadRate, Rates
from kvtier_engine.kv.save import Saver, SaveRules
from kvtier_engine.kv.tiers import Tiers


@dataclass(frozen=True, slots=True)
class _Leaving:
    disk: DiskTier
    saver: Saver


class L3:
    """Attaches a disk to the other tiers, takes in what it has finished, detaches it."""

    def __init__(
        self, tiers: Tiers, hints: Hints, rates: Rates, clock: Callable[[], float]
    ) -> None:
        self._tiers = tiers
        self._hints = hints
        self._rates = rates
        self._clock = clock
        self._leaving: _Leaving | None = None

    def attach(self, disk: DiskTier, rules: SaveRules) -> None:
        """L3 is there from now on. What L2 holds is offered to it as if it had just come."""
        host = self._tiers.host
        assert host is not None, "pages reach the disk through L2"
        assert self._tiers.disk is None and self._leaving is None, "there is one L3"
        self._connect(disk, Saver(host, disk, rules, self._clock))
        self._rates.load = LoadRate(disk.reads)
        self._hints.pins.disk_came()

    def detach(self) -> None:
        """Nothing more is asked of the disk or given to it: `leaving` until what is under way has
        ended. Its pages are misses, its owner closes it."""
        disk, saver, host = self._tiers.disk, self._tiers.saver, self._tiers.host
        assert disk is not None and saver is not None and host is not None
        self._leaving = _Leaving(disk, saver)
        if self._tiers.prefetcher is not None:
            self._tiers.prefetcher.drop_wanted()
        self._connect(None, None)
        self._rates.load = None
        host.forget_disk()

    @property
    def leaving(self) -> DiskTier | None:
        """A disk that was detached and still has requests of ours."""
        return self._leaving.disk if self._leaving is not None else None

    @property
    def events(self) -> int | None:
        """A file descriptor that is readable when `poll` has something to take in."""
        disk = self._tiers.disk or self.leaving
        return disk.event_fd() if disk is not None else None

    @property
    def in_flight(self) -> int:
        """Pages on their way to or from the disk, or waiting for that."""
        parts = (self._tiers.saver, self._tiers.prefetcher, self.leaving)
        return sum(part.in_flight for part in parts if part is not None)

    def poll(self) -> None:
        """Takes in what the disk has finished and gives it more. Never waits."""
        tiers = self._tiers
        if self._leaving is not None:
            self._poll_leaving(self._leaving)
        if tiers.disk is None or tiers.saver is None or tiers.prefetcher is None:
            return
        if self._take_in(tiers.disk, tiers.saver) or tiers.prefetcher.in_flight:
            self._rates.update()  # looks at the disk, which nothing else changes
        tiers.prefetcher.pages_per_s = self._rates.pages().load
        tiers.prefetcher.pump()
        tiers.saver.pump()

    def _poll_leaving(self, leaving: _Leaving) -> None:
        self._take_in(leaving.disk, leaving.saver)
        if leaving.disk.in_flight == 0:
            self._leaving = None
            if self._tiers.host is not None:
                self._tiers.host.forget_disk()

    def _take_in(self, disk: DiskTier, saver: Saver) -> bool:
        """True if pages have been read."""
        assert self._tiers.prefetcher is not None
        loaded, saved = disk.poll()
        for load in loaded:
            self._tiers.prefetcher.finish(load)
        for save in saved:
            saver.finish(save)
            if disk is self._tiers.disk:
                self._hints.saved(save)
        return bool(loaded)

    def _connect(self, disk: DiskTier | None, saver: Saver | None) -> None:
        self._tiers.disk, self._tiers.saver = disk, saver
        if self._tiers.prefetcher is not None:
            self._tiers.prefetcher.disk = disk
        if self._tiers.offloader is not None:
            self._tiers.offloader.saver = saver
