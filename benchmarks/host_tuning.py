"""What `kvtier tune` changes, with and without: readahead for weights, the scheduler for pages.

As root, on an otherwise idle machine, in a folder on the disk in question:

    .venv/bin/python benchmarks/host_tuning.py DIR --rounds 5

Settings are put back at the end. Rounds alternate between the values, so that a noisy neighbour
meets them all; medians are printed.
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvtier_ops.bench.disk import measure_disk

READAHEAD_KIB = (128, 1024, 4096, 8192)
SCHEDULERS = ("none", "mq-deadline")
FILE_BYTES = 1 << 30
BLOCK = 1 << 20
PAGE_BYTES = 1 << 20


@contextmanager
def kept(file: Path) -> Iterator[None]:
    """Whatever is set within, the old value comes back."""
    text = file.read_text()
    before = text.partition("[")[2].partition("]")[0] or text
    try:
        yield
    finally:
        file.write_text(before)


def read_mapped(path: Path) -> float:
    """Bytes per second of a file read once through a mapping, as weights are."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as memory:
            start = time.perf_counter()
            done = sum(len(memory[at : at + BLOCK]) for at in range(0, len(memory), BLOCK))
            return done / (time.perf_counter() - start)
    finally:
        os.close(fd)


def readahead(folder: Path, queue: Path, rounds: int) -> None:
    path = folder / "kvtier-readahead"
    rates: dict[int, list[float]] = {value: [] for value in READAHEAD_KIB}
    try:
        with open(path, "wb") as file:
            for _ in range(FILE_BYTES // BLOCK):
                file.write(os.urandom(BLOCK))
            os.fsync(file.fileno())
        with kept(queue / "read_ahead_kb"):
            for _ in range(rounds):
                for value in READAHEAD_KIB:
                    (queue / "read_ahead_kb").write_text(str(value))
                    rates[value].append(read_mapped(path))
    finally:
        path.unlink(missing_ok=True)
    print("readahead, a mapped file of 1 GiB read once")
    for value, found in rates.items():
        low, high = min(found) / 1e6, max(found) / 1e6
        print(
            f"  {value:>5} KiB  {statistics.median(found) / 1e6:>6.0f} MB/s"
            f"  ({low:.0f}..{high:.0f})"
        )


def scheduler(folder: Path, queue: Path, rounds: int) -> None:
    rows: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with kept(queue / "scheduler"):
        for _ in range(rounds):
            for name in SCHEDULERS:
                (queue / "scheduler").write_text(name)
                result = measure_disk(folder, PAGE_BYTES, 6.0, lambda stage, done, total: None)
                for rate in result.reads:
                    rows.setdefault((name, rate.depth), []).append((rate.bytes_per_s, rate.p99_ms))
    print("scheduler, random reads of 1 MiB past the page cache")
    for (name, depth), found in sorted(rows.items(), key=lambda row: row[0][1]):
        rate, p99 = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"  depth {depth:>2}  {name:<12} {rate / 1e6:>6.0f} MB/s  p99 {p99:>6.1f} ms")


def queue_of(folder: Path) -> Path:
    device = os.stat(folder).st_dev
    found = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    for each in (found, found.parent):  # a partition's queue is the disk's
        if (each / "queue/scheduler").exists():
            return each / "queue"
    raise SystemExit(f"{folder} lies on no disk of its own")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    queue = queue_of(args.folder)
    readahead(args.folder, queue, args.rounds)
    scheduler(args.folder, queue, args.rounds)


if __name__ == "__main__":
    main()
