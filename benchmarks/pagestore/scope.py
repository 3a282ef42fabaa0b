"""How much a run does, and where."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

from pagestore.turn import GIB, MIB

STORES_MAX = 5  # side by side
BLOCK_BYTES = 4096


@dataclass(frozen=True)
class Scope:
    """Sizes of a run. A turn is short, because the disk's own rate wanders."""

    folder: Path
    rounds: int
    store_bytes: int  # of one store, and of the file that fio has beside it
    turn_bytes: int
    page_sizes: tuple[int, ...]
    mixed_s: float  # of reads beside writes, a turn
    reopen_pages: int
    reopen_files: int  # far fewer: it takes far longer, and grows in step
    huge: bool  # buffers on huge pages, on all sides
    peers: Path | None  # where the virtual environments of other stores are

    @staticmethod
    def choose(folder: Path, args: argparse.Namespace) -> Scope:
        sizes = (1 * MIB, 4 * MIB, 16 * MIB)
        if args.quick:
            amounts = (1 * GIB, 256 * MIB, sizes, 1.5, 100_000, 10_000)
        else:
            amounts = (4 * GIB, 512 * MIB, sizes, 3.0, 1_000_000, 100_000)
        return Scope(
            folder, args.rounds or (3 if args.quick else 5), *amounts, not args.plain, args.peers
        )

    def slots(self, page_bytes: int) -> int:
        return self.store_bytes // page_bytes

    def count(self, page_bytes: int) -> int:
        """Pages of one turn."""
        return self.turn_bytes // page_bytes

    def room_error(self) -> str | None:
        """A sentence when the disk has too little room for the largest section and a reserve."""
        beside_raw_slots = 2 * self.store_bytes
        beside_others = STORES_MAX * (self.rounds + 1) * self.turn_bytes
        needed = max(beside_raw_slots, beside_others, self.reopen_pages * 2 * BLOCK_BYTES) + 3 * GIB
        free = shutil.disk_usage(self.folder).free
        if free >= needed:
            return None
        return (
            f"{self.folder} has {free / GIB:.1f} GiB free and this run takes {needed / GIB:.1f}: "
            "name a folder on another disk with --disk, or take less with --quick"
        )
