"""Two nodes with networks of their own: they find each other, or say what is in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.builders import make_model
from support.two_nodes import NetworkNode, two_nodes

MEET = str(Path(__file__).with_name("meet_here.py"))
WAIT_S = 60
Nodes = tuple[NetworkNode, NetworkNode]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with two_nodes() as both:
        yield both


@pytest.fixture
def profile(tmp_path: Path, nodes: Nodes) -> Path:
    make_model(tmp_path / "model")
    path = tmp_path / "two.yaml"
    path.write_text(
        f"version: 1\nmodel: {{path: model}}\nengine: {{tensor_parallel: 2}}\ncluster:\n"
        f"  nodes: 2\n  master_address: {nodes[0].address}\n  meet_timeout_s: 30\n"
        "  secret: {env: CLUSTER_SECRET}\n"
    )
    return path


def start(
    node: NetworkNode, profile: Path, *overrides: str, **environment: str
) -> subprocess.Popen[str]:
    known = {"CLUSTER_SECRET": "sesame", "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    words = [sys.executable, MEET, str(profile), *overrides]
    return node.start(words, profile.parent, **known)


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, out, err


def slurm(rank: int, nodes: int = 2) -> dict[str, str]:
    return {"SLURM_NODEID": str(rank), "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_LOCALID": "0"}


def test_they_meet_over_the_network(nodes: Nodes, profile: Path) -> None:
    """Node 1 first: it waits until node 0 listens. Slurm says which is which."""
    later = start(nodes[1], profile, **slurm(1))
    first = start(nodes[0], profile, **slurm(0))
    for process in (first, later):
        code, out, err = end(process)
        assert code == 0, err
        assert "agree: 0 (node-a), 1 (node-b)" in out
    assert profile.read_text()


def test_different_profiles_are_told_on_both(nodes: Nodes, profile: Path) -> None:
    first = start(nodes[0], profile, "cluster.node_rank=0")
    second = start(nodes[1], profile, "cluster.node_rank=1", "tiers.page_tokens=128")
    for process in (first, second):
        code, _, err = end(process)
        assert code == 3
        assert "KVT-D704" in err
        assert "`tiers.page_tokens` is `128`, not `64`" in err


def test_a_node_that_does_not_come_is_named(nodes: Nodes, profile: Path) -> None:
    alone = start(nodes[0], profile, "cluster.node_rank=0", "cluster.meet_timeout_s=0.5")
    code, _, err = end(alone)
    assert code == 3
    assert "node 1 of 2 (numbered from 0) did not come to 198.18.7.1:2732 within 0.5 s" in err
    assert "came: 0 (node-a)" in err


def test_node_0_on_the_wrong_machine(nodes: Nodes, profile: Path) -> None:
    code, _, err = end(start(nodes[1], profile, "cluster.node_rank=0"))
    assert code == 3
    assert "this is node 0, and 198.18.7.1 is no address of this host" in err


def test_no_machine_at_the_address_of_node_0(nodes: Nodes, profile: Path) -> None:
    address = "cluster.master_address=198.18.7.9"
    given = ("cluster.node_rank=1", address, "cluster.meet_timeout_s=0.3")
    code, _, err = end(start(nodes[1], profile, *given))
    assert code == 3
    assert "node 0 was not there at 198.18.7.9:2732 within 0.3 s" in err
    assert "no answer" in err or "No route to host" in err


def test_slurm_and_the_profile_disagree(nodes: Nodes, profile: Path) -> None:
    code, _, err = end(start(nodes[1], profile, **slurm(1, 4)))
    assert code == 2
    assert f"{profile}:5:10: `cluster.nodes`: the profile says 2 nodes" in err


def test_nobody_says_which_node_this_is(nodes: Nodes, profile: Path) -> None:
    code, _, err = end(start(nodes[0], profile))
    assert code == 2
    assert "nothing says which of the 2 nodes this is" in err
    assert "--node-rank N" in err


def test_a_secret_that_is_not_there(nodes: Nodes, profile: Path) -> None:
    code, _, err = end(start(nodes[0], profile, "cluster.node_rank=0", CLUSTER_SECRET=""))
    assert code == 2
    assert "the environment has no `CLUSTER_SECRET`" in err


def test_launch_meets_the_others_before_it_starts(nodes: Nodes, profile: Path, home: Path) -> None:
    """All that one node can know comes first; then the meeting; then what the engine cannot do."""
    started = []
    for rank, node in enumerate(nodes):
        own = home / str(rank)
        own.mkdir()
        words = [sys.executable, "-P", "-m", "kvtier_ops", "launch", str(profile)]
        words += ["--node-rank", str(rank), "--set", "tiers.l2.size=8MiB"]
        words += ["--set", "tiers.l1.size=4MiB", "--set", "server.port=0"]
        folders = {"HOME": str(own), "XDG_STATE_HOME": str(own), "XDG_RUNTIME_DIR": str(own)}
        known = {"CLUSTER_SECRET": "sesame", "PYTHONPATH": os.pathsep.join(sys.path)}
        started.append(node.start(words, profile.parent, **known, **folders))
    for process in started:
        code, out, err = end(process)
        assert code == 3, err
        assert "2 nodes met" in err
        assert "agree: 0 (node-a), 1 (node-b)" in err
        assert "KVT-P103" in err[err.index("2 nodes met") :]
        assert "Traceback" not in err
        assert "serving" not in out
