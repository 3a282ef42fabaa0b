"""The doctor's checks for several nodes: each passes, and each fails."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ops.builders import disk, make_host
from ops.launched import free_port
from ops.rendered import small_profile

from kvtier_ops.doctor.check import Context, Finding, run_checks
from kvtier_ops.doctor.checks import cluster as checks
from kvtier_ops.host import DriveKind
from kvtier_ops.prepare import Instead, prepare
from kvtier_ops.profile.load import load_profile
from kvtier_ops.profile.schema import Profile


def find(id: str, context: Context) -> list[Finding]:
    return [found for found in run_checks(checks.CHECKS, context) if found.id == id]


def context(**cluster: Any) -> Context:
    values = {"nodes": 2, "node_rank": "0", "master_address": "192.0.2.1", **cluster}
    return Context(Profile.model_validate({"version": 1, "cluster": values}))


def one(id: str, **cluster: Any) -> Finding:
    (found,) = find(id, context(**cluster))
    return found


def test_one_node_is_not_asked() -> None:
    assert list(run_checks(checks.CHECKS, context(nodes=1))) == []
    assert list(run_checks(checks.CHECKS, Context())) == []


def test_d701_the_address_of_node_0(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one("KVT-D701").ok
    loop = one("KVT-D701", master_address="127.0.0.1")
    assert not loop.ok
    assert "every node would find itself" in loop.current

    def unknown(*given: object, **more: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    gone = one("KVT-D701", master_address="nowhere.invalid")
    assert (gone.ok, gone.current) == (False, "does not resolve: Name or service not known")
    assert "master_address" in gone.fix


def test_d701_a_silent_name_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(checks, "RESOLVE_S_MAX", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: release.wait(30) and [])
    try:
        assert "no name server answers" in one("KVT-D701", master_address="slow").current
    finally:
        release.set()


def test_d702_node_0_can_listen_there() -> None:
    port = str(free_port())
    assert one("KVT-D702", master_address="127.0.0.1", master_port=port).ok
    with socket.create_server(("127.0.0.1", int(port))):
        taken = one("KVT-D702", master_address="127.0.0.1", master_port=port)
    assert not taken.ok
    assert "in use" in taken.current
    assert not one("KVT-D702").ok, "192.0.2.1 is no address of this host"


def test_d702_the_others_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"master_address": "127.0.0.1", "node_rank": "1"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert (
            "something listens"
            in one("KVT-D702", master_port=str(server.getsockname()[1]), **there).current
        )
    refused = one("KVT-D702", master_port=str(free_port()), **there)
    assert (refused.ok, "before node 0 is launched" in refused.current) == (True, True)

    def drop(self: socket.socket, address: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket.socket, "connect", drop)
    silent = one("KVT-D702", **there)
    assert (silent.ok, "firewall" in silent.fix) == (False, True)


def test_d703_which_node_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one("KVT-D703").current.startswith("0: the profile")
    assert not one("KVT-D703", node_rank="2").ok
    for name in ("SLURM_NODEID", "SLURM_PROCID", "GROUP_RANK", "RANK", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    unknown = one("KVT-D703", node_rank="auto")
    assert (unknown.ok, unknown.current) == (False, "nothing says which")
    assert "--node-rank" in unknown.fix
    assert find("KVT-D702", context(node_rank="auto")) == []
    monkeypatch.setenv("SLURM_NODEID", "1")
    assert "SLURM_NODEID" in one("KVT-D703", node_rank="auto").current
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "3")
    assert "says 3 nodes" in one("KVT-D703", node_rank="auto").current


def test_d704_a_line_that_is_the_same_on_every_node(tmp_path: Path) -> None:
    def line(*overrides: str, **host: Any) -> Finding:
        file = load_profile(path, overrides)
        made = prepare(file, Instead(make_host(disks=file.profile.tiers.l3.directories)))
        (found,) = find("KVT-D704", Context(file.profile, made))
        return found

    path = small_profile(tmp_path, "cluster: {nodes: 2, master_address: 192.0.2.1}\n")
    path.write_text(path.read_text().replace("{device: cpu}", "{device: cpu, tensor_parallel: 2}"))
    both = {line(f"cluster.node_rank={rank}").current for rank in (0, 1)}
    assert len(both) == 1
    assert "kvtier " in next(iter(both))
    assert line("tiers.page_tokens=128").current not in both
    (tmp_path / "model/generation_config.json").write_text("{}")
    changed = line()
    assert changed.current not in both
    file = load_profile(path)
    made = prepare(file, Instead(make_host(disks=file.profile.tiers.l3.directories)))
    gone = replace(made, plan=made.plan, model=replace(made.model, path=tmp_path / "gone"))
    missing = replace(gone, plan=replace(made.plan, model=gone.model))
    (found,) = find("KVT-D704", Context(file.profile, missing))
    assert not found.ok


def test_d705_shared_directories(tmp_path: Path) -> None:
    given = {"shared_directories": [str(tmp_path)]}
    path = small_profile(tmp_path)
    file = load_profile(path)
    made = prepare(file, Instead(make_host(disks=file.profile.tiers.l3.directories)))

    def on(kind: str, drive: DriveKind) -> Finding:
        facts = {tmp_path: disk(tmp_path, exists=True, kind=kind, drive_kind=drive)}
        host = replace(made.host, directories=facts)
        (found,) = find("KVT-D705", replace(context(**given), prepared=replace(made, host=host)))
        return found

    assert on("nfs4", DriveKind.NETWORK).ok
    assert "of this host alone" in on("ext4", DriveKind.NVME).current
    missing = one("KVT-D705", shared_directories=[str(tmp_path / "none")])
    assert (missing.ok, missing.current) == (False, "is not there")
