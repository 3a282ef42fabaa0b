"""A page store's superblock and slots, read from outside and changed by nobody.

Offsets are those of docs/disk-format.md.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvtier_store import PageInfo

FORMAT_VERSION = 2
BLOCK_BYTES = 4096
_STORE_MAGIC, _SLOT_MAGIC = b"KVTSTORE", b"KVTSLOT\n"
_SUPERBLOCK = struct.Struct("<8sII16s32sQQQQQ")
_CHECKED_FROM = 16  # the checksum is of all that follows it
_CRC32C = 0x82F63B78  # its polynomial, reversed
_SLOT = struct.Struct("<8sII16s40s16s16sQQI")


@dataclass(frozen=True)
class Superblock:
    """`version` alone is of other versions than ours."""

    version: int
    uuid: bytes
    namespace: bytes
    page_bytes: int
    slot_bytes: int
    slots_per_segment: int

    @property
    def padded_namespace(self) -> bytes:
        """As slots repeat it: 32 bytes and the length."""
        return self.namespace.ljust(32, b"\0") + struct.pack("<Q", len(self.namespace))


def read_superblock(directory: Path) -> Superblock | None:
    """None if there is none of kvtier's, or a damaged one. Raises OSError.

    Imports no native module: a bad build would end the process."""
    with (directory / "superblock").open("rb") as file:
        block = file.read(_SUPERBLOCK.size)
    if len(block) < _SUPERBLOCK.size:
        return None
    magic, version, checksum, uuid, space, length, page, slot, per_segment, _ = _SUPERBLOCK.unpack(
        block
    )
    if magic != _STORE_MAGIC:
        return None
    if version == FORMAT_VERSION and checksum != _crc32c(block[_CHECKED_FROM:]):
        return None
    if not slot or not per_segment:
        return None
    return Superblock(version, uuid, space[: min(length, 32)], page, slot, per_segment)


def _crc32c(data: bytes) -> int:
    """Bit by bit: a superblock is short."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_CRC32C if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def slot_ill(directory: Path, store: Superblock, page: PageInfo) -> str:
    """What is wrong with the slot of a page that the journal names; empty if nothing is. Past the
    page cache where that can be. Raises OSError; imports the native module."""
    from kvtier_store import crc32c

    name = f"segment-{page.slot // store.slots_per_segment:05d}"
    offset = page.slot % store.slots_per_segment * store.slot_bytes
    fd = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.posix_fadvise(fd, offset, store.slot_bytes, os.POSIX_FADV_DONTNEED)
        header = os.pread(fd, BLOCK_BYTES, offset)
        payload = os.pread(fd, store.page_bytes, offset + BLOCK_BYTES)
    finally:
        os.close(fd)
    if len(header) < BLOCK_BYTES or len(payload) < store.page_bytes:
        return "cut off"
    magic, version, checksum, uuid, space, key, _, sequence, length, payload_checksum = (
        _SLOT.unpack_from(header)
    )
    if magic != _SLOT_MAGIC or version != FORMAT_VERSION or checksum != crc32c(header[16:128]):
        return "its header is damaged"
    if (uuid, space) != (store.uuid, store.padded_namespace):
        return "it is of another store"
    if (key, sequence) != (page.key, page.sequence):
        return "it holds another page"
    if length != store.page_bytes or payload_checksum != crc32c(payload):
        return "its bytes are not those that were written"
    return ""
