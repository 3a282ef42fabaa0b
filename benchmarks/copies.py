"""Pages between L1 and L2 in host memory, against memcpy of the same pages in the same run.

python benchmarks/copies.py [--rounds N]
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import time
from collections.abc import Callable
from functools import partial

import torch
from harness import describe_machine, median, spread, table

from kvtier_engine.runner.host_copier import HostCopier
from kvtier_engine.runner.step import Copy
from kvtier_store import Arena, Backing

PAGE_BYTES = 64 * 23040  # of SmolLM2-135M in bf16
PAGES, SLOTS, COPIED = 200, 400, 94


def timed(work: Callable[[], None]) -> float:
    """GB/s of the copied pages."""
    begun = time.perf_counter()
    work()
    return COPIED * PAGE_BYTES / (time.perf_counter() - begun) / 1e9


def memcpy(to: torch.Tensor, source: torch.Tensor, pairs: list[tuple[int, int]]) -> None:
    for target, origin in pairs:
        ctypes.memmove(to[target].data_ptr(), source[origin].data_ptr(), PAGE_BYTES)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    fd = os.memfd_create("kvtier-copies")
    arena = Arena.open(
        fd,
        slots=SLOTS,
        parts=1,
        part_bytes=PAGE_BYTES,
        namespace=b"n",
        backing=Backing.TRANSPARENT,
    )
    slots = torch.frombuffer(arena.part_view(0), dtype=torch.uint8).view(SLOTS, -1)[:, :PAGE_BYTES]
    pages = torch.zeros((PAGES, PAGE_BYTES), dtype=torch.uint8)
    slots.fill_(1)
    pages.fill_(2)
    chosen = random.Random(1)
    targets, sources = (chosen.sample(range(count), COPIED) for count in (PAGES, SLOTS))
    pairs = list(zip(targets, sources, strict=True))
    copies = [Copy(page, slot) for page, slot in pairs]
    back = [(slot, page) for page, slot in pairs]
    rows = []
    for threads in sorted({1, os.cpu_count() or 1}):
        copier = HostCopier(pages, slots, threads)
        for name, ours, plain in (
            ("L2 to L1", partial(copier.restore, copies), lambda: memcpy(pages, slots, pairs)),
            ("L1 to L2", partial(copier.offload, 1, copies), lambda: memcpy(slots, pages, back)),
        ):
            measured = [(timed(ours), timed(plain)) for _ in range(rounds)]
            ratios = [mine / theirs for mine, theirs in measured]
            rates = [f"{median(each):.1f}" for each in zip(*measured, strict=True)]
            rows.append([name, str(threads), *rates, f"{median(ratios):.2f}", spread(ratios)])
    print(describe_machine("python benchmarks/copies.py"))
    print(f"{COPIED} pages of {PAGE_BYTES} bytes, {rounds} rounds, {arena.backing.name}\n")
    print(table(["copy", "threads", "GB/s", "memcpy GB/s", "ratio", "spread"], rows))


if __name__ == "__main__":
    main()
