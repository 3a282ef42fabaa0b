"""Each rank next to its GPU, or on its share of the nodes; what the plan says the kernel does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ops.builders import GIB, make_host
from ops.test_numa import gpus
from ops.test_plan import plan, profile

from kvtier_engine.config import RankPlacement
from kvtier_ops.host import Host, NumaNode
from kvtier_ops.launch.binding import describe_ranks
from kvtier_ops.plan import Plan

NODES = Path("/sys/devices/system/node/node0")


def node(number: int, cpus: int = 4) -> NumaNode:
    return NumaNode(number, 4 * GIB, 3 * GIB, tuple(range(number * cpus, number * cpus + cpus)))


def sockets(count: int, **changes: Any) -> Host:
    nodes = tuple(node(number) for number in range(count))
    return make_host(numa_nodes=nodes, cpus=4 * count, **changes)


def made(on: Host, ranks: int, device: str = "cpu", **host: Any) -> Plan:
    engine = {"device": device, "tensor_parallel": ranks}
    return plan(profile(engine=engine, host=host), on)


def placed(of: Plan) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(nodes, memory nodes) of each rank, as the engine is told."""
    config = of.engine_config(Path("/run/x")).parallel
    assert len(config.placements) == len(of.placements)
    for told, meant in zip(config.placements, of.placements, strict=True):
        cpus = tuple(cpu for number in meant.nodes for cpu in node(number).cpus)
        assert told.cpus == meant.cpus == cpus
        assert told.memory_nodes == meant.memory_nodes
        assert told.interleave == (len(told.memory_nodes) > 1)
    return [(each.nodes, each.memory_nodes) for each in of.placements]


def test_a_rank_is_next_to_its_gpu() -> None:
    of = made(sockets(2, gpus=gpus(1, 0, 1)), 3, "cuda")
    assert placed(of) == [((1,), (1,)), ((0,), (0,)), ((1,), (1,))]
    assert of.threads == 2  # two of three ranks share four CPUs
    assert describe_ranks(of)[0] == (
        "rank 0: CPUs of NUMA node 1, memory of 1 first (next to GPU 0)"
    )


@pytest.mark.parametrize(
    ("nodes", "ranks", "expected"),
    [
        (2, 1, [((0, 1), (0, 1))]),
        (2, 3, [((0, 1), (0, 1))] * 3),
        (3, 3, [((0,), (0,)), ((1,), (1,)), ((2,), (2,))]),
        (4, 3, [((0, 1, 2, 3), (0, 1, 2, 3))] * 3),
        (6, 3, [((0, 1), (0, 1)), ((2, 3), (2, 3)), ((4, 5), (4, 5))]),
    ],
)
def test_without_gpus_ranks_and_nodes_are_shared_out(
    nodes: int, ranks: int, expected: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    of = made(sockets(nodes), ranks)
    assert placed(of) == expected
    assert of.threads <= min(len(each.cpus) for each in of.placements)


def test_nothing_is_bound_where_there_is_nothing_to_choose_or_to_know() -> None:
    assert placed(made(sockets(1), 3)) == []
    assert placed(made(make_host(), 1)) == []
    assert placed(made(sockets(2), 1, bind_ranks="none")) == []
    assert placed(made(sockets(2, gpus=gpus(0, None, 1)), 3, "cuda")) == []


def test_the_profiles_own_nodes_are_kept_to() -> None:
    assert placed(made(sockets(2), 1, cpu_nodes=[1])) == [((1,), (1,))]
    assert placed(made(sockets(2), 1, memory_nodes=[0, 1])) == [((0, 1), ())]
    assert placed(made(sockets(2, gpus=gpus(0, 1, 0)), 3, "cuda", cpu_nodes=[0])) == []


CHILD = """
import os, re
from kvtier_engine.config import RankPlacement
from kvtier_engine.placement import keep_to_cpus, take_memory
placement = RankPlacement(cpus={cpus}, memory_nodes={nodes}, interleave={interleave})
take_memory(placement)
keep_to_cpus(placement)
block = bytearray(b"x" * (64 << 20))
print(sorted(os.sched_getaffinity(0)))
print(open("/proc/self/numa_maps").read())
"""


def child(cpus: tuple[int, ...], nodes: tuple[int, ...], interleave: bool) -> tuple[str, str, str]:
    """(affinity, policy of a large block, stderr)"""
    code = CHILD.format(cpus=cpus, nodes=nodes, interleave=interleave)
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    affinity, maps = done.stdout.split("\n", 1)
    blocks = re.findall(r"^\w+ (\S+) anon=\d{4,}", maps, re.MULTILINE)
    return affinity, blocks[0] if blocks else "", done.stderr


@pytest.mark.skipif(not NODES.exists(), reason="this kernel knows no NUMA nodes")
@pytest.mark.parametrize(
    ("nodes", "interleave", "policy"),
    [((0,), False, "prefer:0"), ((0,), True, "interleave:0"), ((), False, "default")],
)
def test_the_kernel_does_what_the_engine_was_told(
    nodes: tuple[int, ...], interleave: bool, policy: str
) -> None:
    cpu = max(os.sched_getaffinity(0))
    affinity, found, _ = child((cpu, 4000), nodes, interleave)
    assert affinity == str([cpu])
    assert found == policy


def test_what_cannot_be_had_is_a_warning() -> None:
    """CPUs and nodes that this process may not use: it runs, slower."""
    affinity, _, err = child((4000,), (1000,), interleave=False)
    assert affinity == str(sorted(os.sched_getaffinity(0)))
    assert "none of the CPUs near the rank's NUMA node" in err
    assert "memory may come from any NUMA node" in err


def test_numactl_agrees() -> None:
    """`numactl --show` in a process that was placed says what we meant."""
    tool = Path("/usr/bin/numactl")
    if not tool.exists():
        pytest.skip("needs numactl")
    code = CHILD.partition("block =")[0].format(cpus=(0,), nodes=(0,), interleave=True)
    code += f"\nos.execv('{tool}', ['numactl', '--show'])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert "policy: interleave" in done.stdout, done.stderr
    assert re.search(r"physcpubind: 0 *$", done.stdout, re.MULTILINE)


def test_a_placement_for_each_rank_or_none() -> None:
    config = made(sockets(1), 1).engine_config(Path("/run/x")).model_dump()
    config["parallel"]["placements"] = [RankPlacement().model_dump()] * 2
    from kvtier_engine.config import EngineConfig

    with pytest.raises(ValueError, match="2 entries for 1 ranks"):
        EngineConfig.model_validate(config)
