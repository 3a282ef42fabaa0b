"""Forks and exits of a process that uses its store just then."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.python_process import command, run_python
from support.store_client import get, open_store

from kvtier_store import Status

IN_TIME_S = 60.0  # generous: what it bounds takes milliseconds

# Puts, gets and completions in threads of their own, which nobody stops.
BUSY = """
import ctypes, os, signal, threading, warnings
from pathlib import Path
from support.store_client import PAGE_BYTES, ROOT, key, open_store, page, put
from kvtier_store import Get, Put, StoreError
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: that is the test
store = open_store(Path(sys.argv[1]), pages=64, commit_interval_s=0.002)
for i in range(8):
    put(store, i)
store.pin([key(i) for i in range(8)])
store.flush()
memory = [ctypes.create_string_buffer(page(i), PAGE_BYTES) for i in range(100, 200)]
pieces = {i: [(ctypes.addressof(memory[i - 100]), PAGE_BYTES)] for i in range(100, 200)}

def submit():
    while True:
        try:
            store.submit_put([Put(i, key(i), ROOT, pieces[i]) for i in range(100, 150)])
            store.submit_get([Get(i, key(i - 50), pieces[i]) for i in range(150, 200)])
        except StoreError:
            return

def collect():
    while True:
        store.wait(0.0001)
        store.stats()

for work in (submit, submit, collect, collect):
    threading.Thread(target=work, daemon=True).start()
"""

# Each child looks at the store, drops it and leaves in its own way.
FORK = """
for how in range(30):
    child = os.fork()
    if child == 0:
        try:
            store.contains([])
        except StoreError:
            del store
            sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
store.close()
"""

# A child that goes on when its parent is gone, until its input ends.
OUTLIVE = """
child = os.fork()
if child == 0:
    sys.stdin.read()
    print("the child has left", flush=True)
    sys.exit()
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def durable_pages_are_there(folder: Path) -> None:
    store = open_store(folder, pages=64)
    assert [get(store, i) for i in range(8)] == [Status.OK] * 8
    # Newer slots than the journal knows of, if it was killed.
    assert set(store.verify().bad) <= {"header", "key", "sequence", "checksum"}
    store.close()


def test_children_of_a_busy_process_end_and_leave_the_store_alone(tmp_path):
    done = run_python(BUSY + FORK, tmp_path / "l3")
    assert (done.returncode, done.stderr) == (0, "")
    durable_pages_are_there(tmp_path / "l3")


@pytest.mark.parametrize("how", ["exits", "killed"])
def test_a_child_that_outlives_its_parent_does_not_keep_the_store(tmp_path, how):
    parent = subprocess.Popen(
        command(BUSY + OUTLIVE, tmp_path / "l3", how),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.wait(IN_TIME_S) == (0 if how == "exits" else -9)
    durable_pages_are_there(tmp_path / "l3")  # while the child is there
    said, errors = parent.communicate("", timeout=IN_TIME_S)  # ends when the child does
    assert (said, errors) == ("the child has left\n", "")


@pytest.mark.parametrize("leave", ["", "sys.exit()", "store.close()"])
def test_leaving_with_requests_in_flight_is_quiet(tmp_path, leave):
    for _ in range(4):
        done = run_python(BUSY + leave, tmp_path / "l3")
        assert (done.returncode, done.stderr) == (0, "")
        durable_pages_are_there(tmp_path / "l3")
