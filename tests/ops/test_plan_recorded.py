"""The repository's profiles on recorded hosts: what is planned, and the tables to the letter.

`KVTIER_WRITE_GOLDEN=1 pytest tests/ops/test_plan_recorded.py` writes the tables anew; look at the
difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvtier_ops.errors import PlanDoesNotFit
from kvtier_ops.host.directories import with_directories
from kvtier_ops.host.record import load_host
from kvtier_ops.plan import Plan
from kvtier_ops.plan.report import render_plan
from kvtier_ops.prepare import Instead, prepare_at
from kvtier_ops.profile.load import load_profile

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data"
GUIDE = ("gpu-cpu", "gpu-cpu-disk", "production", "two-nodes")
QWEN, SMOL = "qwen3-235b-a22b", "smollm2-135m"


def plan(profile: str, host: str, model: str, *overrides: str) -> Plan:
    file = load_profile(ROOT / "profiles" / f"{profile}.yaml", overrides)
    recorded = with_directories(
        load_host(DATA / "hosts" / f"{host}.json"), file.profile.tiers.l3.directories
    )
    return prepare_at(file, Instead(recorded, str(DATA / "models" / f"{model}.json"))).plan


def ids(made: Plan) -> set[str]:
    return {warning.id for warning in made.warnings}


L3 = "tiers.l3.directories=[/var/lib/kvtier]"
CASES = {
    **{profile: (profile, "server", QWEN) for profile in GUIDE},
    "laptop": ("quickstart", "laptop", SMOL, L3),
    "container": ("quickstart", "container", SMOL, L3, "tiers.l2.size=auto"),
    "vm": ("quickstart", "vm", SMOL, L3),
    "workstation": (
        "quickstart", "workstation", "qwen3-8b", L3, "engine.device=auto", "tiers.l1.size=auto",
        "tiers.l2.size=24GiB", "tiers.l3.size=100GB",
    ),
    "cluster-node": ("two-nodes", "cluster-node", QWEN, "tiers.l2.hugepages=transparent"),
}  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", CASES)
def test_tables(name: str, width: int) -> None:
    text = render_plan(plan(*CASES[name]), width).replace(str(ROOT), "ROOT") + "\n"
    golden = DATA / "plans" / f"{name}.{width}.txt"
    if os.environ.get("KVTIER_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_promised_that_the_host_does_not_have(name: str) -> None:
    made = plan(*CASES[name])
    host = made.host
    assert all(memory.left_bytes >= 0 for memory in made.memories)
    assert made.memories[-1].usable_bytes <= host.usable_memory_bytes
    in_hugepages = sum(pool.free * size for size, pool in host.hugepages.items())
    from_memory = sum(item.bytes for item in made.memories[-1].items if item.name == "L2")
    assert made.l2.bytes <= from_memory + in_hugepages
    for disk in made.disks:
        assert disk.capacity_bytes <= disk.on.free_bytes


def test_the_guides_production_machine() -> None:
    made = plan("production", "server", QWEN)
    assert made.token_bytes == 192_512
    assert made.ranks.here == 8
    assert set(made.numa_nodes) == {0, 1}
    assert {need.node for need in made.hugepages} == {0, 1}
    assert {"KVT-P101", "KVT-P102", "KVT-P011"} <= ids(made)  # 200,000 of 204,800 are reserved
    assert made.answers.rates.prefill_tokens_per_s.source == "datasheet"


def test_a_container_has_what_its_group_grants() -> None:
    made = plan(*CASES["container"])
    assert made.host.cgroup_limit_bytes is not None
    assert made.memories[-1].usable_bytes < made.host.memory_available_bytes
    assert made.memories[-1].usable_bytes <= made.host.cgroup_limit_bytes


def test_a_small_machine_without_nodes() -> None:
    made = plan(*CASES["vm"])
    assert made.host.numa_nodes == ()
    assert (made.device, made.numa_nodes) == ("cpu", ())
    with pytest.raises(PlanDoesNotFit) as raised:
        plan("quickstart", "vm", SMOL, L3, "tiers.l2.size=64GiB")
    assert raised.value.problems[0].id == "KVT-P203"


def test_nodes_that_share_a_directory() -> None:
    shared = "tiers.l3.directories=[/models/kvtier]"
    made = plan(*CASES["cluster-node"], shared)
    assert {"KVT-P016", "KVT-P103"} <= ids(made)


def test_the_largest_that_fits_fits() -> None:
    with pytest.raises(PlanDoesNotFit) as raised:
        plan("gpu-cpu", "server", QWEN, "tiers.l2.size=900GiB")
    largest = raised.value.problems[0].hint.split("`")[1]
    assert plan("gpu-cpu", "server", QWEN, f"tiers.l2.size={largest}").l2.pages
