"""`kill -9` of a process that writes: what it had flushed is there, and nothing is wrong."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from support.store_client import capacity, get, open_store

from kvtier_store import Status

# Says the number of each page once it is durable.
WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from support.store_client import open_store, put
store = open_store(sys.argv[2], pages=64, commit_interval_s=0.01)
first = int(sys.argv[3])
for i in range(first, first + 100000):
    put(store, i)
    if i % 3 == 0:
        store.flush()
        print(i, flush=True)
"""
KILLS = 12
PAGES = 64

# Puts, gets and evicts at full rate, many at a time, while another thread flushes. Says up to
# which page all were durable.
BUSY_WRITER = """
import ctypes, sys, threading
sys.path.insert(0, sys.argv[1])
from support.store_client import PAGE_BYTES, ROOT, key, open_store, page
from kvtier_store import Get, Put, Status
store = open_store(sys.argv[2], sys.argv[2] + "-2", pages=PAGES, commit_interval_s=0.002)
first = int(sys.argv[3])
ended = first - 1  # all puts up to this one have

def flush():
    while True:
        done = ended
        store.flush()
        print(done, flush=True)

threading.Thread(target=flush, daemon=True).start()
buffers = [ctypes.create_string_buffer(PAGE_BYTES) for _ in range(32)]
waiting = {}
for i in range(first, first + 10**7):
    while i - 32 in waiting:  # it has the buffer
        for completion in store.wait(60):
            del waiting[completion.ticket]
    ended = min(waiting, default=i) - 1
    buffer = buffers[i % 32]
    buffer[:] = page(i)
    pieces = [(ctypes.addressof(buffer), PAGE_BYTES)]
    waiting[i] = buffer
    if i % 7 == 6:
        store.submit_get([Get(i, key(i - 100), pieces)])
    else:
        store.submit_put([Put(i, key(i), ROOT, pieces)])
    if i % 11 == 0:
        store.evict([key(i - 1000)])
"""
BUSY_PAGES = 1500  # in each of two directories
CHECKED = 300


def write_until_killed(folder: Path, first: int, count: int, program: str = WRITER) -> int:
    """Kills the writer once `count` pages are durable; the last that it knew to be."""
    tests = str(Path(__file__).parent.parent)
    command = [sys.executable, "-P", "-c", program, tests, str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline()]
        while int(said[-1]) < first + count:
            said.append(writer.stdout.readline())
        writer.kill()
        said += writer.stdout.readlines()
    return max(int(line) for line in said if line.endswith("\n"))


@pytest.mark.timeout(120)
def test_a_writer_killed_again_and_again(tmp_path):
    random.seed(1)
    first = 0
    for _ in range(KILLS):
        durable = write_until_killed(tmp_path, first, count=random.randrange(1, 90))
        store = open_store(tmp_path, pages=PAGES)
        for i in range(max(0, durable - 20), durable + 1):
            assert get(store, i) is Status.OK, f"page {i} was durable, up to {durable}"
        for i in range(durable + 1, durable + 30):
            assert get(store, i) in (Status.OK, Status.MISS, Status.CORRUPT)
        store.close()
        first = durable + 1


def bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def kill_busy_writers(folder: Path, kills: int) -> None:
    chance = random.Random(kills)
    program = BUSY_WRITER.replace("pages=PAGES", f"pages={BUSY_PAGES}")
    folders = [folder / "l3", folder / "l3-2"]
    first, checked = 1000, 0
    for _ in range(kills):
        count = chance.randrange(1, 1000)
        durable = write_until_killed(folders[0], first, count, program)
        for each in folders:
            assert bytes_on_disk(each) <= capacity(BUSY_PAGES)
        store = open_store(*folders, pages=BUSY_PAGES)
        written = [i for i in range(max(first, durable - CHECKED), durable + 1) if i % 7 != 6]
        for i in written:
            assert get(store, i) is Status.OK, f"page {i} was durable, up to {durable}"
        checked += len(written)
        report = store.verify()
        # Newer slots than the journal knows of; none of them is a page that was said to be durable.
        assert set(report.bad) <= {"header", "key", "sequence", "checksum"}
        assert store.verify().bad == {}
        assert store.stats().pages <= store.stats().capacity_pages
        store.close()
        first = durable + 1000
    assert checked > kills * 100


def test_busy_writers_killed_at_any_instant(tmp_path):
    kill_busy_writers(tmp_path, 5)


@pytest.mark.slow
def test_busy_writers_killed_hundreds_of_times(tmp_path):
    kill_busy_writers(tmp_path, 400)
