"""What every store in the comparison is made to do, in its own process."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

STAMP_BYTES = 16


@dataclass(frozen=True)
class Setting:
    folder: Path
    page_bytes: int
    slots: int  # buffers, and with it the largest batch
    pages: int  # that the store is to hold


@dataclass(frozen=True)
class Item:
    """One page of a batch: `number` says which, `slot` in which buffer."""

    slot: int
    number: int

    @property
    def key(self) -> bytes:
        return hashlib.blake2b(self.number.to_bytes(8, "little"), digest_size=16).digest()


class Adapter(Protocol):
    def page(self, slot: int) -> memoryview:
        """The buffer from which `slot` is put, touched before."""

    def put(self, batch: Sequence[Item]) -> None:
        """Returns when all are written, be it to the page cache."""

    def get(self, batch: Sequence[Item]) -> Sequence[memoryview | None]:
        """The pages, valid until the next call; None for one that is not there."""

    def sync(self) -> None:
        """Returns when all that was put survives power loss."""

    def close(self) -> None: ...


def sync_file_system(folder: Path) -> None:
    """For stores that have no flush of their own."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed")
    finally:
        os.close(descriptor)
