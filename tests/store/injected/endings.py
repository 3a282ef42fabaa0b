"""A store whose disk stands still is let go of: nobody else is held up, and exits are clean."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.injected.stores import IN_TIME_S, PAGES, Pages, filled, opens, threads
from support.disk_faults import Faults
from support.engine_process import wait_for
from support.python_process import command
from support.store_client import get

from kvtier_store import Status


@contextmanager
def threads_that_run_when_let() -> Iterator[None]:
    """No thread takes the interpreter from another one: it has to be given."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    yield
    sys.setswitchinterval(before)


def test_dropping_the_last_reference_holds_up_no_other_thread(folder: Path, faults: Faults) -> None:
    store = filled(folder, close_timeout_s=5)
    faults.stall("read")
    pages = Pages()
    store.submit_get([pages.get(1)])
    wait_for(lambda: faults.waiting("read") == 1, "a read to stand still")
    begin = threading.Event()
    steps = 0

    def go_on() -> None:
        nonlocal steps
        begin.wait()
        while steps < 1000:
            steps += 1
        faults.clear()

    other = threading.Thread(target=go_on)
    other.start()
    with threads_that_run_when_let():
        begin.set()
        assert steps == 0
        del store  # returns once the disk answers, which the other thread sees to
        assert steps == 1000, "the other thread stood still"
    other.join()
    assert opens(folder)


def test_a_store_that_is_dropped_while_its_disk_hangs_lets_go_later(
    folder: Path, faults: Faults
) -> None:
    store = filled(folder, close_timeout_s=0.05)
    faults.stall("read")
    pages = Pages()
    store.submit_get([pages.get(1)])
    wait_for(lambda: faults.waiting("read") == 1, "a read to stand still")
    del store
    assert not opens(folder)
    faults.clear()
    wait_for(lambda: opens(folder), "the directory to be let go of")


# Its requests stand still when it leaves; the memory that they read to goes with it.
LEAVE = """
from pathlib import Path
from store.injected.stores import PAGES, Pages, threads
store = threads(Path(sys.argv[1]), close_timeout_s=0.05, read_depth=4)
pages = Pages()
store.submit_get([pages.get(i) for i in PAGES])
store.submit_put([pages.put(i) for i in range(100, 110)])
assert sys.stdin.readline() == "leave\\n"
"""


def test_an_interpreter_exits_beside_a_disk_that_stands_still(folder: Path, faults: Faults) -> None:
    filled(folder).close()
    faults.stall("read")
    program = subprocess.Popen(
        command(LEAVE, folder), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: faults.waiting("read") == 4, "its reads to stand still")
    _, said = program.communicate("leave\n", timeout=IN_TIME_S)
    assert (program.returncode, said) == (0, "")
    faults.forget_waiting("read")
    faults.clear()
    store = threads(folder)
    assert [get(store, i) for i in PAGES] == [Status.OK] * 8
    store.close()


# Closes beside a disk that stands still, and forks; both processes stay until their input ends.
CLOSE_AND_FORK = """
import os, warnings
from pathlib import Path
from kvtier_store import StoreError
from store.injected.stores import Pages, threads
warnings.simplefilter("ignore", DeprecationWarning)
store = threads(Path(sys.argv[1]), close_timeout_s=0.05)
pages = Pages()
store.submit_get([pages.get(1)])
assert sys.stdin.readline() == "close\\n"
try:
    store.close()
except StoreError:
    if os.fork() != 0:
        print("forked", flush=True)
sys.stdin.read()
"""


def test_a_child_does_not_keep_what_its_parent_lets_go_of_later(
    folder: Path, faults: Faults
) -> None:
    filled(folder).close()
    faults.stall("read")
    program = subprocess.Popen(
        command(CLOSE_AND_FORK, folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdin is not None
    assert program.stdout is not None
    wait_for(lambda: faults.waiting("read") == 1, "its read to stand still")
    program.stdin.write("close\n")
    program.stdin.flush()
    assert program.stdout.readline() == "forked\n"
    assert not opens(folder)
    faults.clear()
    wait_for(lambda: opens(folder), "the directory to be let go of")
    program.communicate("", timeout=IN_TIME_S)
    assert program.returncode == 0
