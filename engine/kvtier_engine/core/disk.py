"""Opens L3, with the rules by which it is written."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvtier_engine.kv.admit import Admission, WriteBudget
from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.kv.save import SaveRules
from kvtier_store import DirectorySpec, Eviction, Store, StoreError, StoreOptions

if TYPE_CHECKING:
    from kvtier_engine.config import EngineConfig, L3Eviction

log = logging.getLogger(__name__)

OPEN_S_MAX = 10.0  # a disk that hangs joins later
CLOSE_S_MAX = 10.0  # a clean stop waits no longer for it
BLOCK_BYTES = 4096
SLOT_EXTRA = 4096 + 256  # that a page takes besides its own blocks: header, journal

_EVICTION: dict[L3Eviction, Eviction] = {
    "lru": Eviction.LRU,
    "keep_reused": Eviction.KEEP_REUSED,
}


class DiskUnavailable(Exception):
    """A sentence for the operator."""


@dataclass(frozen=True, slots=True)
class OpenDisk:
    tier: DiskTier
    rules: SaveRules


class DiskOpener:
    """Opens the configured directories, as often as it is asked to; one at a time."""

    def __init__(self, config: EngineConfig, namespace: bytes) -> None:
        self._config = config
        self._namespace = namespace
        self.capacities = [d.capacity_bytes for d in config.cache.l3.directories]

    @property
    def directories(self) -> list[Path]:
        return [directory.path for directory in self._config.cache.l3.directories]

    def capacities_for(self, total_bytes: int) -> list[int]:
        """Equal parts for the directories. Raises DiskUnavailable where there is no room for them.
        Looks at the disks: may take long."""
        part = total_bytes // len(self.directories)
        try:
            places = [_nearest(path) for path in self.directories]
            devices = [place.stat().st_dev for place in places]
            for device in set(devices):
                here = [i for i, each in enumerate(devices) if each == device]
                self._check_room(places[here[0]], [self.directories[i] for i in here], part)
        except OSError as error:
            raise DiskUnavailable(f"cannot look at the directories of l3: {error}") from error
        return [part] * len(self.directories)

    def open(self, l2_slots: int, capacities: Sequence[int] | None = None) -> OpenDisk:
        """In sizes that become those of later openings, if this one comes to something; None: in
        the last ones. Pages come from an L2 of so many slots. May take long. Raises
        DiskUnavailable."""
        l3 = self._config.cache.l3
        wanted = list(self.capacities if capacities is None else capacities)
        try:
            store = Store.open(
                [
                    DirectorySpec(str(path), capacity)
                    for path, capacity in zip(self.directories, wanted, strict=True)
                ],
                page_bytes=self._config.cache.page_bytes,
                namespace=self._namespace,
                options=StoreOptions(
                    reserve_bytes=l3.reserve_bytes,
                    eviction=_EVICTION[l3.eviction],
                    admit_sightings_min=l3.admit_sightings,
                    admit_chain_pages_min=l3.admit_chain_pages,
                    open_timeout_s=OPEN_S_MAX,
                    close_timeout_s=CLOSE_S_MAX,
                ),
            )
        except (StoreError, OSError, RuntimeError, MemoryError) as error:
            raise DiskUnavailable(str(error)) from error
        self.capacities = wanted
        stats = store.stats()
        log.info("L3: %d pages recovered in %.3f s", stats.recovered_pages, stats.recovery_s)
        disk = DiskTier(store)
        return OpenDisk(disk, self.rules(disk, l2_slots))

    def rules(self, disk: DiskTier, l2_slots: int) -> SaveRules:
        """What is written to L3, and when. The native store has a rule of its own
        (admit_sightings, admit_chain_pages), after this one."""
        l3 = self._config.cache.l3
        if l3.admission == "all" and l3.write_bytes_per_day is None:
            return SaveRules(l3.write)
        budget = None
        if l3.write_bytes_per_day is not None:
            budget = WriteBudget(
                l3.write_bytes_per_day, lambda: disk.stats().disk_written_bytes_last_day
            )
        admission = Admission(
            disk.stats().capacity_pages,
            slot_bytes=self._slot_bytes,
            budget=budget,
            memory_pages=l2_slots,
            is_choosy=l3.admission == "auto",
        )
        return SaveRules(l3.write, admission)

    @property
    def _slot_bytes(self) -> int:
        """Of a page on disk."""
        return -(-self._config.cache.page_bytes // BLOCK_BYTES) * BLOCK_BYTES + SLOT_EXTRA

    def _check_room(self, place: Path, directories: Sequence[Path], part: int) -> None:
        """Raises DiskUnavailable, or OSError. All of the directories lie on the file system of
        `place`."""
        file_system = os.statvfs(place)
        files = [file for path in directories if path.is_dir() for file in path.iterdir()]
        taken = sum(map(_blocks_bytes, files))
        free = file_system.f_bavail * file_system.f_frsize + taken
        room = max(0, free - self._config.cache.l3.reserve_bytes)
        if part * len(directories) > room:
            names = ", ".join(map(str, directories))
            raise DiskUnavailable(
                f"{names} would hold {part * len(directories)} bytes, and the file system has "
                f"{room} beyond the reserve: choose a smaller size, or free disk space"
            )


def _blocks_bytes(file: Path) -> int:
    try:
        return file.stat().st_blocks * 512
    except FileNotFoundError:
        return 0  # gone since it was listed


def _nearest(path: Path) -> Path:
    """It, or the nearest folder above it that is there."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())
