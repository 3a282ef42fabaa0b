"""Memory on huge pages, for all sides of a comparison.

A virtual disk takes a few hundred runs of memory in one request, so that a page of 4 MiB on pages
of 4 KiB goes out in several. Which side happens to have larger pages would decide the comparison.
"""

from __future__ import annotations

import ctypes
import mmap

HUGE_BYTES = 2 << 20
MADV_HUGEPAGE = 14
MADV_COLLAPSE = 25  # Linux 6.1; also for shared memory where the kernel's setting is `never`


refused = False  # whether some memory of this process had to stay on plain pages


def prefer(address: int, count: int, advice: int = MADV_HUGEPAGE) -> bool:
    """For memory from here on to be touched, as far as whole huge pages fit; False if refused."""
    begin = -(-address // HUGE_BYTES) * HUGE_BYTES
    end = (address + count) // HUGE_BYTES * HUGE_BYTES
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return begin < end and libc.madvise(begin, end - begin, advice) == 0


def collapse(address: int, count: int) -> None:
    """Moves touched memory to huge pages."""
    global refused
    prefer(address, count)
    refused = not prefer(address, count, MADV_COLLAPSE) or refused


def buffers(size: int, count: int) -> list[memoryview]:
    """`count` buffers of `size` bytes in one private mapping on huge pages, touched."""
    rounded = -(-size * count // HUGE_BYTES) * HUGE_BYTES
    mapping = mmap.mmap(-1, rounded + HUGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    skip = -address % HUGE_BYTES
    prefer(address + skip, rounded)
    view = memoryview(mapping)[skip : skip + rounded]
    view[:] = bytes(rounded)
    collapse(address + skip, rounded)
    return [view[i * size : (i + 1) * size] for i in range(count)]
