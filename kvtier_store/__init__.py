"""kvtier's native storage: an arena of pages in host memory (L2), a store of pages on disk (L3).

Engine-neutral: it knows pages, slots, keys and files, and takes memory as addresses and lengths.
Built from csrc/store; `_native.pyi` has the signatures and what they promise.
"""

from kvtier_store._native import (
    KEY_BYTES,
    Arena,
    ArenaEntry,
    ArenaError,
    Backing,
    Completion,
    DirectoryInfo,
    DirectorySpec,
    DirectoryStats,
    Eviction,
    Get,
    IoEngine,
    Mark,
    PageInfo,
    Put,
    ScrubReport,
    Status,
    Store,
    StoreError,
    StoreOptions,
    StoreStats,
    Wear,
    crc32c,
    inspect,
)

__all__ = [
    "KEY_BYTES",
    "Arena",
    "ArenaEntry",
    "ArenaError",
    "Backing",
    "Completion",
    "DirectoryInfo",
    "DirectorySpec",
    "DirectoryStats",
    "Eviction",
    "Get",
    "IoEngine",
    "Mark",
    "PageInfo",
    "Put",
    "ScrubReport",
    "Status",
    "Store",
    "StoreError",
    "StoreOptions",
    "StoreStats",
    "Wear",
    "crc32c",
    "inspect",
]
