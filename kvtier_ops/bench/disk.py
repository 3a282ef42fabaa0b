"""How fast a directory's disk takes and gives pages, past the page cache.

Pages are read and written with O_DIRECT at random places of one preallocated file without a name,
by as many threads as requests are to be in flight. The file is gone however this process ends.
"""

from __future__ import annotations

import mmap
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.bench.slices import deviation, slice_rates
from kvtier_ops.errors import BadInput, HostError, Refused
from kvtier_ops.units import UNITS, format_bytes

DEPTHS = (1, 4, 16)
BLOCK_BYTES = 4096
FILE_BYTES_MAX = 4 * UNITS["GiB"]
FILE_PAGES_MIN = 32
KEPT_FREE_PERCENT = 10  # of the file system: a nearly full disk is slow, and wanted by others
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Rate:
    """One direction at one depth. `deviation`: half the range of the slices, over their median."""

    depth: int
    bytes_per_s: float
    deviation: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class DiskResult:
    """What was measured; rates from the least depth to the greatest."""

    page_bytes: int
    is_direct: bool  # past the page cache
    reads: tuple[Rate, ...]
    writes: tuple[Rate, ...]

    @property
    def best_read(self) -> Rate:
        return max(self.reads, key=lambda rate: rate.bytes_per_s)

    @property
    def best_write(self) -> Rate:
        return max(self.writes, key=lambda rate: rate.bytes_per_s)


def measure_disk(
    directory: Path, page_bytes: int, seconds: float, progress: Progress
) -> DiskResult:
    """Takes about `seconds`, and as long as it takes to make the file. `progress` in thousandths.

    Raises BadInput for a directory that is not there, Refused where the disk is nearly full,
    HostError for what the operating system says.
    """
    if page_bytes % BLOCK_BYTES:
        raise BadInput(f"a page has whole blocks of {BLOCK_BYTES} bytes", "such as `--page 4MiB`")
    pages = _pages(directory, page_bytes)
    try:
        fd, is_direct = _open(directory)
        try:
            os.posix_fallocate(fd, 0, pages * page_bytes)
            return _measure(_File(fd, page_bytes, pages), seconds, is_direct, progress)
        finally:
            os.close(fd)
    except OSError as error:
        hint = "name a directory of a local file system that you may write to"
        raise HostError(f"cannot measure `{directory}`: {error.strerror}", hint) from error


def _pages(directory: Path, page_bytes: int) -> int:
    """Of the file: what leaves the file system its tenth. Raises BadInput or Refused."""
    if not directory.is_dir():
        raise BadInput(f"there is no directory `{directory}`", "make it, or name another")
    found = os.statvfs(directory)
    total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    room = free - total * KEPT_FREE_PERCENT // 100
    pages = min(room, FILE_BYTES_MAX) // page_bytes
    if pages < FILE_PAGES_MIN:
        needed = FILE_PAGES_MIN * page_bytes + total * KEPT_FREE_PERCENT // 100
        raise Refused(
            f"`{directory}` has {format_bytes(free)} free, and measuring needs "
            f"{format_bytes(needed)}: a nearly full disk is slower than it will be",
            "free some space, or name a directory on another disk",
        )
    return int(pages)


def _open(directory: Path) -> tuple[int, bool]:
    """A file without a name, past the page cache if the file system can. Raises OSError."""
    flags = os.O_RDWR | os.O_CLOEXEC
    for direct in (os.O_DIRECT, 0):
        try:
            return os.open(directory, flags | os.O_TMPFILE | direct, 0o600), bool(direct)
        except OSError:
            continue
    path = directory / f".kvtier-bench-{os.getpid()}"
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    path.unlink()
    return fd, False


@dataclass(frozen=True)
class _File:
    fd: int
    page_bytes: int
    pages: int


def _measure(file: _File, seconds: float, is_direct: bool, progress: Progress) -> DiskResult:
    """Writes first: what was never written is not read from the disk."""
    each = seconds / (2 * len(DEPTHS))
    _fill(file, progress)
    rates: dict[str, list[Rate]] = {"write": [], "read": []}
    done = 0
    for direction in ("write", "read"):
        for depth in DEPTHS:
            rates[direction].append(_run(file, direction, depth, each))
            done += 1
            progress("measure", done, 2 * len(DEPTHS))
    return DiskResult(file.page_bytes, is_direct, tuple(rates["read"]), tuple(rates["write"]))


def _fill(file: _File, progress: Progress) -> None:
    """Every page once, with bytes that no disk can squeeze."""
    buffer = _buffer(file.page_bytes)
    for page in range(file.pages):
        _whole(os.pwritev(file.fd, [buffer], page * file.page_bytes), file)
        progress("fill", page + 1, file.pages)
    buffer.close()
    os.fsync(file.fd)


def _buffer(size: int) -> mmap.mmap:
    """Aligned, as O_DIRECT wants it."""
    buffer = mmap.mmap(-1, size)
    buffer.write(os.urandom(size))
    return buffer


def _whole(moved: int, file: _File) -> None:
    if moved != file.page_bytes:
        raise OSError(0, f"only {moved} of {file.page_bytes} bytes were transferred")


def _run(file: _File, direction: str, depth: int, seconds: float) -> Rate:
    """Each thread moves pages for as long; each transfer counts in the slice in which it ends."""
    start = time.perf_counter()
    ends: list[list[tuple[float, float]]] = [[] for _ in range(depth)]
    errors: list[OSError] = []

    def work(number: int) -> None:
        places = random.Random(number)
        buffer = _buffer(file.page_bytes)
        try:
            while (begin := time.perf_counter()) - start < seconds and not errors:
                at = places.randrange(file.pages) * file.page_bytes
                call = os.preadv if direction == "read" else os.pwritev
                _whole(call(file.fd, [buffer], at), file)
                now = time.perf_counter()
                ends[number].append((now - start, now - begin))
        except OSError as error:
            errors.append(error)
        finally:
            buffer.close()

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(depth)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if direction == "write":
        os.fsync(file.fd)
    if errors:
        raise errors[0]
    took = time.perf_counter() - start
    return _rate(depth, [end for each in ends for end in each], took, file.page_bytes)


def _rate(depth: int, ends: list[tuple[float, float]], took: float, page_bytes: int) -> Rate:
    """From (end, duration) of every transfer."""
    rates = slice_rates(((end, page_bytes) for end, _ in ends), took)
    times = sorted(duration * 1000 for _, duration in ends)
    return Rate(
        depth=depth,
        bytes_per_s=len(ends) * page_bytes / took,
        deviation=deviation(rates),
        p50_ms=times[len(times) // 2] if times else 0.0,
        p99_ms=times[min(len(times) * 99 // 100, len(times) - 1)] if times else 0.0,
    )
