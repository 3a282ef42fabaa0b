"""The kernels' threads: any number, from any thread, in a forked child, asleep when idle."""

import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from kvtier_engine import _kernels

DEADLINE_S = 60


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_refuses_thread_counts(threads):
    with pytest.raises(ValueError, match=f"threads must be 1 to 256, not {threads}"):
        _kernels.set_num_threads(threads)


def test_counts_threads():
    _kernels.set_num_threads(3)
    assert _kernels.num_threads() == 3


def test_refuses_unknown_instruction_set():
    with pytest.raises(ValueError, match="not `sse9`"):
        _kernels.force_isa("sse9")
    assert _kernels.isa() == _kernels.supported_isas()[-1]


def test_calls_from_several_threads(linear):
    """Each gets its own answer, while a third keeps changing the number of threads."""
    weight, x = torch.randn(200, 64), torch.randn(2, 30, 64)
    expected = [linear(weight, part) for part in x]
    wrong: list[int] = []
    stop = threading.Event()

    def call(number):
        for _ in range(200):
            if not torch.equal(linear(weight, x[number]), expected[number]):
                wrong.append(number)

    def resize():
        threads = 1
        while not stop.is_set():
            threads = threads % 4 + 1
            _kernels.set_num_threads(threads)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(2)]
    resizer = threading.Thread(target=resize)
    for thread in [*callers, resizer]:
        thread.start()
    for thread in callers:
        thread.join(DEADLINE_S)
    stop.set()
    resizer.join(DEADLINE_S)
    assert not any(thread.is_alive() for thread in [*callers, resizer])
    assert not wrong


CHILD = """
import os, sys, torch
from kvtier_engine import _kernels

weight, x = torch.ones(200, 64), torch.ones(30, 64)
packed = _kernels.PackedWeight(weight.data_ptr(), 200, 64, "float32")
out = torch.zeros(30, 200)

def run():
    out.zero_()
    _kernels.linear(packed, x.data_ptr(), 30, 64, out.data_ptr(), 200, "float32")
    return bool((out.numpy() == 64).all())

_kernels.set_num_threads(3)
assert run()
child = os.fork()
if child == 0:
    os._exit(0 if run() and len(os.listdir("/proc/self/task")) == 3 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert run()
"""


def test_works_in_a_forked_child_and_exits():
    """A child gets workers of its own; both processes then exit with theirs asleep."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(
        [sys.executable, "-c", CHILD],
        env=environment,
        timeout=DEADLINE_S,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def worker_states() -> list[str]:
    """The scheduler's letter for each of this process's threads but the calling one."""
    own = str(threading.get_native_id())
    states = []
    for task in os.listdir("/proc/self/task"):
        if task != own:
            with open(f"/proc/self/task/{task}/stat") as stat:
                states.append(stat.read().rpartition(") ")[2][0])
    return states


def test_idle_threads_sleep(linear):
    _kernels.set_num_threads(3)
    linear(torch.ones(200, 64), torch.ones(30, 64))
    deadline = time.monotonic() + DEADLINE_S
    while any(state == "R" for state in worker_states()):
        assert time.monotonic() < deadline, "a worker spins although there is nothing to do"
        time.sleep(0.01)
