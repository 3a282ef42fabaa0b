"""NUMA nodes: what the host says, what the plan makes of it, what the engine is told."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ops.builders import GIB, make_host
from ops.test_host import captured
from ops.test_plan import plan, profile

from kvtier_ops.errors import BadInput
from kvtier_ops.host import Gpu, Host, NumaNode, probe
from kvtier_ops.host.gpus import read_gpus
from kvtier_ops.plan.json_output import plan_as_json
from kvtier_ops.plan.resolve import resolve


def gpus(*nodes: int | None) -> tuple[Gpu, ...]:
    return tuple(Gpu("H100", 80 * GIB, 79 * GIB, node) for node in nodes)


def two_nodes(*nodes: int | None) -> Host:
    return make_host(numa_nodes=(NumaNode(0), NumaNode(1)), gpus=gpus(*nodes))


def nodes_of(host: Host, ranks: int = 3, device: str = "cuda", numa: Any = "auto") -> Any:
    engine = {"device": device, "tensor_parallel": ranks}
    made = plan(profile(engine=engine, tiers={"l2": {"numa": numa}}), host)
    config = made.engine_config(Path("/run/x"))
    assert config.cache.l2.numa_nodes == made.numa_nodes
    assert plan_as_json(made)["numa_nodes"] == list(made.numa_nodes)
    assert ("NUMA" in made.l2.reason) == bool(made.numa_nodes)
    return made.numa_nodes


def test_auto_is_the_node_of_each_ranks_gpu() -> None:
    assert nodes_of(two_nodes(1, 0, 1, 0)) == (1, 0, 1)
    assert nodes_of(two_nodes(1, 0, 1, 0), ranks=1) == (1,)


def test_auto_binds_nothing_where_there_is_nothing_to_choose_or_to_know() -> None:
    assert nodes_of(make_host(numa_nodes=(NumaNode(0),), gpus=gpus(0, 0, 0))) == ()
    assert nodes_of(make_host(gpus=gpus(0, 1, 0))) == ()
    assert nodes_of(two_nodes(1, None, 0)) == ()
    assert nodes_of(two_nodes(0, 1, 0), device="cpu") == ()


def test_what_the_profile_says_counts_on_a_cpu_as_well() -> None:
    assert nodes_of(two_nodes(0, 1, 0), numa="none") == ()
    assert nodes_of(two_nodes(0, 1, 0), numa=["1", "1", "0"]) == (1, 1, 0)
    assert nodes_of(make_host(), device="cpu", numa=[0, 5, 0]) == (0, 5, 0)


def test_the_plans_choice_takes_the_place_of_auto() -> None:
    host = two_nodes(1, 0, 1)
    asked = profile(engine={"device": "cuda", "tensor_parallel": 3})
    assert resolve(asked, plan(asked, host)).tiers.l2.numa == (1, 0, 1)


@pytest.mark.parametrize(
    ("numa", "what", "hint"),
    [
        ([0, 1], "2 nodes for 3 ranks: each rank's part of L2 lies on one", "`[0, 0, 0]`"),
        ([0, 1, 7], "this host has no NUMA node 7", "its nodes are 0, 1"),
    ],
)
def test_mistakes_name_the_field(numa: list[int], what: str, hint: str) -> None:
    with pytest.raises(BadInput) as raised:
        nodes_of(two_nodes(0, 1, 0), numa=numa)
    [problem] = raised.value.problems
    assert problem.field == "tiers.l2.numa"
    assert what in problem.what
    assert hint in problem.hint


def test_nodes_of_the_host(home: Path) -> None:
    assert probe(captured(home, {})).node_ids == ()
    online = "sys/devices/system/node/online"
    assert probe(captured(home, {online: "0-2,4\n"})).node_ids == (0, 1, 2, 4)


def test_the_node_of_a_gpu_is_its_pci_devices(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bus_ids = {0: "00000000:3B:00.0", 1: b"0000FFFF:AF:00.1", 2: "00000000:01:00.0", 3: "?"}
    nvml = SimpleNamespace(
        NVMLError=OSError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 4,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=10, free=9),
        nvmlDeviceGetName=lambda handle: "H100",
        nvmlDeviceGetPciInfo=lambda handle: SimpleNamespace(busId=bus_ids[handle]),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    devices = "sys/bus/pci/devices"
    files = {
        f"{devices}/0000:3b:00.0/numa_node": "1\n",
        f"{devices}/ffff:af:00.1/numa_node": "0\n",
        f"{devices}/0000:01:00.0/numa_node": "-1\n",
    }
    found = read_gpus(captured(home, files))
    assert [gpu.numa_node for gpu in found] == [1, 0, None, None]
