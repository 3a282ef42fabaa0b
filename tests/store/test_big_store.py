"""A store of a million pages: recovered from its journal alone, in a bounded memory."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.python_process import run_python
from support.store_client import SLOT_BYTES, open_store, put_all

from kvtier_store import crc32c

PAGES = 1_000_000
WRITTEN = 10  # of them by a store; of the others there are the records only
RECORD_BYTES = 64
JOURNAL_BYTES = PAGES * RECORD_BYTES
SPARE_BYTES = 8 << 30
RECORD = np.dtype(
    [
        ("checksum", "<u4"),
        ("kind", "<u4"),
        ("slot", "<u8"),
        ("sequence", "<u8"),
        ("key", "V16"),
        ("parent", "V16"),
        ("reserved", "<u8"),
    ]
)

# `clear_refs`: the peak counts from here on.
OPEN = """
import gc, json
from pathlib import Path
from support.store_client import get, open_store

def measure():
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    kib = {line[0]: int(line[1]) for line in lines if line[0] in ("VmRSS:", "VmHWM:")}
    moved = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return kib["VmRSS:"] << 10, kib["VmHWM:"] << 10, int(moved["rchar"])

folder, pages, written = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
gc.collect()
measure()
Path("/proc/self/clear_refs").write_text("5")
before, _, read_before = measure()
store = open_store(folder, pages=pages)
after, peak, read_after = measure()
stats = store.stats()
print(json.dumps({
    "recovered": stats.recovered_pages,
    "pages": stats.pages,
    "rss": after - before,
    "peak": peak - before,
    "read": read_after - read_before,
    "statuses": [get(store, i).name for i in range(written + 2)],
}))
store.close()
"""


def records(first_slot: int, seed: int) -> bytes:
    """Puts of random keys, in chains of 64 pages, up to the store's last slot."""
    count = PAGES - first_slot
    table = np.zeros(count, RECORD)
    table["kind"] = 1
    table["slot"] = np.arange(first_slot, PAGES)
    table["sequence"] = np.arange(count) + 10**12
    keys = np.frombuffer(np.random.default_rng(1).bytes(16 * count), "V16")
    table["key"] = keys
    table["parent"][1:] = keys[:-1]
    table["parent"][::64] = bytes(16)
    view = memoryview(table).cast("B")
    starts = range(0, count * RECORD_BYTES, RECORD_BYTES)
    table["checksum"] = [crc32c(view[at + 4 : at + RECORD_BYTES], seed) for at in starts]
    return table.tobytes()


def append_records(journal: Path) -> None:
    content = journal.read_bytes().rstrip(b"\0")
    end = -(-len(content) // RECORD_BYTES) * RECORD_BYTES
    seed = int.from_bytes(content[12:16], "little")
    with journal.open("r+b") as file:
        file.seek(end)
        file.write(records(WRITTEN, seed))


def add_segments(folder: Path, *, allocate: bool) -> None:
    """Files of their full length: with blocks, or without those of the slots never written."""
    superblock = (folder / "superblock").read_bytes()
    slots_per_segment = int.from_bytes(superblock[88:96], "little")
    for segment, first in enumerate(range(0, PAGES, slots_per_segment)):
        path = folder / f"segment-{segment:05}"
        path.touch(mode=0o600)
        size = min(slots_per_segment, PAGES - first) * SLOT_BYTES
        with path.open("r+b") as file:
            if allocate:
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)


def create(folder: Path, *, allocate: bool) -> None:
    store = open_store(folder, pages=PAGES)
    put_all(store, range(WRITTEN))
    store.close()
    append_records(folder / "journal")
    add_segments(folder, allocate=allocate)


# Sparse: as a careless copy leaves it. The store sorts out which slots have blocks, in three words
# a slot that are freed, and that malloc keeps for the process.
@pytest.mark.parametrize(
    ("allocate", "resident_max"), [(True, 100), (False, 112)], ids=["allocated", "sparse"]
)
def test_a_million_pages_are_recovered_from_metadata_alone(tmp_path, allocate, resident_max):
    folder = tmp_path / "l3"
    if allocate and shutil.disk_usage(tmp_path).free < PAGES * SLOT_BYTES + SPARE_BYTES:
        pytest.skip("no room on disk for a million pages")
    try:
        create(folder, allocate=allocate)
        done = run_python(OPEN, folder, str(PAGES), str(WRITTEN))
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["recovered"] == found["pages"] == PAGES
    assert found["statuses"] == ["OK"] * WRITTEN + ["MISS"] * 2
    # The journal up to its last record, in stretches of 4 MiB, and one that holds none.
    assert JOURNAL_BYTES < found["read"] < JOURNAL_BYTES + (8 << 20)
    # 72 bytes an entry, two words in hash tables of 2^20, one in the heap.
    assert found["rss"] / PAGES < resident_max
    # The journal's records are there until the index has them.
    assert found["peak"] / PAGES < resident_max + RECORD_BYTES + 16
