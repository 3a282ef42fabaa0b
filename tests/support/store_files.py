"""Damages a page store's files from outside, as a bad disk or a careless hand would.

Offsets follow docs/disk-format.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvtier_engine.config import EngineConfig
from kvtier_engine.kv.keys import KeyChain, namespace, root_key

BLOCK = 4096
KEY_AT = 72  # in a slot's header block


@dataclass(frozen=True)
class Slot:
    file: Path
    offset: int
    bytes: int

    def read(self) -> bytes:
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.bytes)

    def write(self, content: bytes, at: int = 0) -> None:
        with self.file.open("r+b") as file:
            file.seek(self.offset + at)
            file.write(content)


def find_slots(folder: Path, page_bytes: int) -> dict[bytes, Slot]:
    """Where each key's page lies."""
    size = BLOCK + -(-page_bytes // BLOCK) * BLOCK
    found = {}
    for file in sorted(folder.glob("segment-*")):
        for offset in range(0, file.stat().st_size - size + 1, size):
            slot = Slot(file, offset, size)
            key = slot.read()[KEY_AT : KEY_AT + 16]
            if any(key):
                found[key] = slot
    return found


def keys_of(config: EngineConfig, fingerprint: bytes, prompt: list[int]) -> list[bytes]:
    """The keys of a prompt's full pages."""
    chain = KeyChain(root_key(namespace(config, fingerprint)), config.cache.page_tokens)
    chain.extend(prompt)
    return chain.keys


def zero(slot: Slot) -> None:
    slot.write(bytes(slot.bytes))


def flip_one_bit(slot: Slot) -> None:
    at = BLOCK + 12345
    slot.write(bytes([slot.read()[at] ^ 0x10]), at)


def truncate(slot: Slot) -> None:
    with slot.file.open("r+b") as file:
        file.truncate(slot.offset + BLOCK + 100)


def swap(slot: Slot, other: Slot) -> None:
    mine, theirs = slot.read(), other.read()
    slot.write(theirs)
    other.write(mine)


Damage = Callable[[Slot], None]
