"""`kill -9` of a process that writes: what it had flushed is there, and nothing is wrong."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from support.store_client import get, open_store

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


def write_until_killed(folder: Path, first: int, lines: int) -> int:
    """The last page that the writer knew to be durable."""
    tests = str(Path(__file__).parent.parent)
    command = [sys.executable, "-P", "-c", WRITER, tests, str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(lines)]
        writer.kill()
        said += writer.stdout.readlines()
    return max(int(line) for line in said if line.endswith("\n"))


@pytest.mark.timeout(120)
def test_a_writer_killed_again_and_again(tmp_path):
    random.seed(1)
    first = 0
    for _ in range(KILLS):
        durable = write_until_killed(tmp_path, first, lines=random.randrange(1, 30))
        store = open_store(tmp_path, pages=PAGES)
        for i in range(max(0, durable - 20), durable + 1):
            assert get(store, i) is Status.OK, f"page {i} was durable, up to {durable}"
        for i in range(durable + 1, durable + 30):
            assert get(store, i) in (Status.OK, Status.MISS, Status.CORRUPT)
        store.close()
        first = durable + 1
