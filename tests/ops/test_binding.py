"""The NUMA nodes that a profile keeps kvtier to, as the kernel sees it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ops.builders import make_host
from ops.launched import write_profile
from ops.test_plan import plan, profile

from kvtier_ops.errors import BadInput, HostError, Refused
from kvtier_ops.host import NumaNode
from kvtier_ops.launch.binding import Binding, binding_of
from kvtier_ops.launch.host_tuning import Tuning
from kvtier_ops.launch.served import Served, read_again
from kvtier_ops.prepare import Instead, prepare
from kvtier_ops.profile.load import load_profile
from kvtier_ops.terminal import Terminal

NODES = Path("/sys/devices/system/node/node0")

CHILD = """
import os, sys
from kvtier_ops.launch.binding import Binding
Binding(({cpu},), (0,)).apply()
inner = "import os; print(os.sched_getaffinity(0)); print(open('/proc/self/numa_maps').read())"
os.execv(sys.executable, [sys.executable, "-c", inner])
"""


@pytest.mark.skipif(not NODES.exists(), reason="this kernel knows no NUMA nodes")
def test_a_process_and_its_children_keep_to_the_nodes() -> None:
    """An engine is started as `exec` does: both must outlive it."""
    cpu = max(os.sched_getaffinity(0))
    code = CHILD.format(cpu=cpu)
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    affinity, maps = done.stdout.split("\n", 1)
    assert affinity == f"{{{cpu}}}"
    heap = re.search(r"^\w+ (\S+) heap", maps, re.MULTILINE)
    assert heap is not None
    assert heap[1] == "bind:0"


def test_a_node_that_is_not_there_is_a_sentence() -> None:
    code = "from kvtier_ops.launch.binding import Binding\nBinding((), (1023,)).apply()"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert "HostError: cannot take memory from NUMA nodes 1023 alone" in done.stderr


def test_cpus_that_are_not_there_are_a_sentence() -> None:
    with pytest.raises(HostError, match="cannot run on these CPUs alone"):
        Binding((100_000,), ()).apply()


def test_no_limit_binds_nothing() -> None:
    made = binding_of(plan(profile()))
    assert made == Binding()
    assert made.describe() == []
    before = os.sched_getaffinity(0)
    made.apply()
    assert os.sched_getaffinity(0) == before


def test_the_profiles_nodes_become_their_cpus() -> None:
    allowed = os.sched_getaffinity(0)
    cpu = min(allowed)
    nodes = (NumaNode(0, cpus=(cpu, 4000)), NumaNode(1, cpus=(4001,)))
    host = make_host(numa_nodes=nodes)
    asked = profile(host={"cpu_nodes": [0], "memory_nodes": [1]})
    made = binding_of(plan(asked, host))
    assert made == Binding((cpu,), (1,))
    assert made.describe() == [
        f"CPUs: {cpu} (`host.cpu_nodes`)",
        "memory: of NUMA nodes 1 alone (`host.memory_nodes`)",
    ]


def test_nodes_without_a_cpu_of_ours() -> None:
    host = make_host(numa_nodes=(NumaNode(0, cpus=(4000,)),))
    with pytest.raises(HostError, match="none of the CPUs of NUMA nodes 0 may be used here"):
        binding_of(plan(profile(host={"cpu_nodes": [0]}), host))


@pytest.mark.parametrize(("name", "new"), [("cpu_nodes", "[0, 1]"), ("memory_nodes", "[1]")])
def test_a_running_launcher_keeps_its_nodes(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, new: str
) -> None:
    """It sees only the CPUs that it is bound to, so that more of them look like the same."""
    path = write_profile(home)
    text = path.read_text()
    path.write_text(f"{text}host: {{{name}: [0]}}\n")
    cpu = min(os.sched_getaffinity(0))
    host = make_host(numa_nodes=(NumaNode(0, cpus=(cpu,)), NumaNode(1, cpus=(4001,))))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {cpu})
    file = load_profile(path)
    served = Served(file, prepare(file, Instead(host=host)))
    path.write_text(f"{text}host: {{{name}: {new}}}\n")
    with pytest.raises(Refused, match="cannot change its NUMA nodes") as raised:
        read_again(served, "small", (), Tuning(file, Terminal(), enabled=False), print)
    assert raised.value.problems[0].field == f"host.{name}"


@pytest.mark.parametrize("name", ["cpu_nodes", "memory_nodes"])
def test_a_host_without_nodes(name: str) -> None:
    with pytest.raises(BadInput, match="tells of no NUMA nodes"):
        plan(profile(host={name: [0]}), make_host())


@pytest.mark.parametrize("name", ["cpu_nodes", "memory_nodes"])
def test_a_node_that_the_host_lacks(name: str) -> None:
    with pytest.raises(BadInput) as raised:
        plan(profile(host={name: [3]}), make_host(numa_nodes=(NumaNode(0), NumaNode(1))))
    assert raised.value.problems[0].field == f"host.{name}"
    assert raised.value.problems[0].hint == "its nodes are 0, 1"
