"""What of a file the kernel keeps in memory."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)


def cached_bytes(path: Path) -> int:
    """In whole pages; looking brings none in."""
    size = path.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    resident = (ctypes.c_ubyte * pages)()
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as view:
        memory = (ctypes.c_ubyte * size).from_buffer(view)
        failed = LIBC.mincore(ctypes.c_void_p(ctypes.addressof(memory)), size, resident)
        del memory  # or the mapping cannot be closed
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    return sum(page & 1 for page in resident) * mmap.PAGESIZE
