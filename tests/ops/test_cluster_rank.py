"""Which node this is, by Slurm, torchrun and Kubernetes, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ops.rendered import ROOT

from kvtier_ops.cli import run
from kvtier_ops.cluster.node_rank import find_node_rank
from kvtier_ops.errors import BadInput
from kvtier_ops.profile.schema import Profile
from kvtier_ops.profile.schema.cluster import Cluster


def cluster(nodes: int = 4, **more: Any) -> Cluster:
    return Cluster.model_validate({"nodes": nodes, **more})


SLURM = {"SLURM_NODEID": "2", "SLURM_JOB_NUM_NODES": "4", "SLURM_LOCALID": "0"}
K8S = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.mark.parametrize(
    ("variables", "host", "rank", "source"),
    [
        (SLURM, "", 2, "SLURM_NODEID"),
        ({"SLURM_PROCID": "3", "SLURM_NNODES": "4"}, "", 3, "SLURM_PROCID"),
        ({**SLURM, "SLURM_JOB_NUM_NODES": "9", "SLURM_STEP_NUM_NODES": "4"}, "", 2, "SLURM_NODEID"),
        ({"GROUP_RANK": "1", "GROUP_WORLD_SIZE": "4"}, "", 1, "GROUP_RANK"),
        ({"RANK": "3", "WORLD_SIZE": "4"}, "", 3, "torchrun's RANK"),
        ({"RANK": "24", "WORLD_SIZE": "32", "LOCAL_WORLD_SIZE": "8"}, "", 3, "torchrun's RANK"),
        ({**SLURM, "GROUP_RANK": "0"}, "", 0, "GROUP_RANK"),  # inside of a Slurm job
        ({"JOB_COMPLETION_INDEX": "3"}, "", 3, "JOB_COMPLETION_INDEX"),
        ({"LWS_WORKER_INDEX": "1", "LWS_GROUP_SIZE": "4"}, "", 1, "LWS_WORKER_INDEX"),
        (K8S, "kvtier-2.kvtier-nodes.default", 2, "kvtier-2"),
        ({**K8S, "POD_NAME": "kvtier-1"}, "kvtier-2", 1, "kvtier-1"),
    ],
)
def test_who_says_which(variables: dict[str, str], host: str, rank: int, source: str) -> None:
    found = find_node_rank(cluster(), variables, host)
    assert (found.rank, found.is_known) == (rank, True)
    assert source in found.source


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"RANK": "2"},  # anybody's variable
        {"SLURM_JOB_NUM_NODES": "4"},  # within salloc, without srun
        {**K8S, "POD_NAME": "kvtier-7d4b9c6f5-x2xkp"},  # of a Deployment
    ],
)
def test_nobody_says(variables: dict[str, str]) -> None:
    found = find_node_rank(cluster(), variables, "no-ordinal-01")
    assert (found.rank, found.is_known) == (0, False)


def test_a_name_with_a_number_means_nothing_outside_of_kubernetes() -> None:
    assert not find_node_rank(cluster(), {}, "gpu-2").is_known


def test_the_profile_wins_and_one_node_asks_nobody() -> None:
    assert find_node_rank(cluster(node_rank="3"), SLURM, "").rank == 3
    assert find_node_rank(cluster(1), {**SLURM, "SLURM_NODEID": "x"}, "").source == ""


@pytest.mark.parametrize(
    ("nodes", "variables", "says"),
    [
        (2, SLURM, "the profile says 2 nodes, Slurm's SLURM_NODEID says 4 nodes"),
        (4, {"JOB_COMPLETION_INDEX": "4"}, "this is node 4; of 4 nodes the last is 3"),
        (4, {**SLURM, "SLURM_NODEID": "two"}, "`SLURM_NODEID` is `two`, and should be a whole"),
        (4, {**SLURM, "SLURM_LOCALID": "1"}, "Slurm runs several tasks on this node"),
        (4, {"GROUP_RANK": "1", "LOCAL_RANK": "3"}, "torchrun runs several tasks on this node"),
        (
            4,
            {"RANK": "9", "WORLD_SIZE": "32", "LOCAL_WORLD_SIZE": "8", "LOCAL_RANK": "1"},
            "several",
        ),
        (4, {"RANK": "1", "WORLD_SIZE": "3"}, "torchrun's RANK says 3 nodes"),
    ],
)
def test_contradictions(nodes: int, variables: dict[str, str], says: str) -> None:
    with pytest.raises(BadInput) as caught:
        find_node_rank(cluster(nodes), variables, "")
    (problem,) = caught.value.problems
    assert says in problem.what
    assert problem.hint
    assert problem.field.startswith("cluster.")


def test_only_what_is_known_is_written_into_the_profile() -> None:
    profile = Profile.model_validate({"version": 1, "cluster": {"nodes": 4}})
    assert find_node_rank(profile.cluster, {}, "").written_into(profile) == profile
    written = find_node_rank(profile.cluster, SLURM, "").written_into(profile)
    assert written.cluster.node_rank == 2


def test_the_plan_says_which_and_by_whom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    profile = str(ROOT / "profiles/two-nodes.yaml")
    model = ROOT / "tests/data/models/qwen3-235b-a22b.json"
    small = [f"model={model}", "gpu=8xH100-80G", "mem=2TiB"]
    given = [
        "plan",
        profile,
        "--what-if",
        ",".join(small),
        "--set",
        "tiers.l2.hugepages=transparent",
    ]
    given += ["--set", f"tiers.l3.directories=[{tmp_path}]", "--set", "tiers.l3.size=auto"]
    assert run([*given, "--node-rank", "1"]) in (0, 3)
    assert "node 1 of 2" in capsys.readouterr().out
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    quickstart = [
        *("plan", str(ROOT / "profiles/quickstart.yaml"), "--set", f"model.path={model}"),
        *("--set", "cluster.nodes=2", "--set", "engine.tensor_parallel=2"),
    ]
    assert run(quickstart) == 2
    assert "the profile says 2 nodes" in capsys.readouterr().err
