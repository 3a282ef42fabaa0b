"""Memory on huge pages, for all sides of a comparison.

A virtual disk takes a few hundred runs of memory in one request, so that a page of 4 MiB on pages
of 4 KiB goes out in several. Which side happens to have larger pages would decide the comparison.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

HUGE_BYTES = 2 << 20
MADV_HUGEPAGE = 14
MADV_COLLAPSE = 25  # Linux 6.1; also for shared memory where the kernel's setting is `never`


def collapse(address: int, count: int) -> bool:
    """Moves the touched memory there to huge pages, as far as whole ones fit; False if refused."""
    begin = -(-address // HUGE_BYTES) * HUGE_BYTES
    end = (address + count) // HUGE_BYTES * HUGE_BYTES
    if begin >= end:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.madvise(begin, end - begin, MADV_HUGEPAGE)
    return libc.madvise(begin, end - begin, MADV_COLLAPSE) == 0


def buffers(size: int, count: int) -> list[memoryview]:
    """`count` buffers of `size` bytes in one private mapping on huge pages, touched."""
    rounded = -(-size * count // HUGE_BYTES) * HUGE_BYTES
    mapping = mmap.mmap(-1, rounded + HUGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    skip = -address % HUGE_BYTES
    view = memoryview(mapping)[skip : skip + rounded]
    view[:] = bytes(rounded)
    if not collapse(address + skip, rounded):
        print("the kernel gives no huge pages: buffers lie on plain ones", file=sys.stderr)
    return [view[i * size : (i + 1) * size] for i in range(count)]
