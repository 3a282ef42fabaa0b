"""L1's memory on the CPU comes, goes back, and comes again."""

import resource
from pathlib import Path

import torch

from kvtier_engine.runner.l1_memory import L1Memory

PAGES, PAGE_BYTES = 64, 100_000  # no multiple of the system's pages


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_pages_above_a_size_go_back_to_the_system():
    memory = L1Memory((PAGES, 2, PAGE_BYTES // 8), torch.float32, torch.device("cpu"))
    storage = memory.storage
    assert storage.shape == (PAGES, 2, PAGE_BYTES // 8)
    assert not storage.any()
    storage[:] = 1.0
    full = resident_bytes()
    memory.keep(10)
    assert full - resident_bytes() > (PAGES - 12) * PAGE_BYTES
    assert storage[:10].eq(1.0).all(), "pages in use lost bytes"
    assert not storage[11:].any()
    storage[PAGES - 1] = 2.0
    assert storage[PAGES - 1].eq(2.0).all()
    memory.keep(PAGES)
    assert storage[PAGES - 1].eq(2.0).all()
