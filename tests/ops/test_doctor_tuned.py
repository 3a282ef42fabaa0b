"""What the doctor says that `kvtier tune` mends, tune mends; and what killed launchers left."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from ops.builders import disk
from ops.doctored import all_of, look, planned, put
from ops.launched import start, write_profile
from ops.tuned import OPERATOR, THP, FakeKernel, number
from support.engine_process import wait_for

from kvtier_ops import cli
from kvtier_ops.doctor import Context
from kvtier_ops.doctor.plan_warnings import plan_findings
from kvtier_ops.host import Drive, DriveKind, HugepagePool
from kvtier_ops.instances import all_instances
from kvtier_ops.tune.find import find_changes
from kvtier_ops.tune.journal import journal_path, read_journal
from kvtier_ops.tune.owner import Owner

GONE = Owner("gone", 1, 1)  # init started at another tick
L3 = Path("/cache")


def mended(context: Context) -> dict[str, str]:
    """Finding -> what tune would write for it."""
    assert context.plan is not None
    changes = find_changes(context.plan, read_journal(context.root), context.root)
    return {change.mends: change.new for change in changes}


def with_weights(context: Context, size: int) -> Context:
    assert context.prepared is not None
    plan = context.prepared.plan
    plan = replace(plan, model=replace(plan.model, weight_bytes=size))
    return replace(context, prepared=replace(context.prepared, plan=plan))


def test_readahead_does_not_matter_to_a_small_model(home: Path) -> None:
    context = planned(home)
    device = os.stat(home / "model").st_dev
    put(home, f"sys/dev/block/{os.major(device)}:{os.minor(device)}/queue/read_ahead_kb", "128\n")
    assert all_of("KVT-D406", context) == []
    assert mended(context) == {}


@pytest.mark.parametrize("kib", [128, 1024])
def test_readahead(home: Path, kib: int) -> None:
    context = with_weights(planned(home), 2 << 30)
    device = os.stat(home / "model").st_dev
    name = f"sys/dev/block/{os.major(device)}:{os.minor(device)}"
    put(home, f"{name}/queue/read_ahead_kb", f"{kib}\n")
    put(home, f"sys/block/{os.major(device)}:{os.minor(device)}/queue/read_ahead_kb", f"{kib}\n")
    found = look("KVT-D406", context)
    assert found.ok == (kib >= 1024)
    assert found.current == f"{kib:,} KiB"
    assert mended(context) == ({} if found.ok else {"KVT-D406": "4096"})
    if not found.ok:
        assert "kvtier tune" in found.fix
        assert "echo 4096 | sudo tee /sys/block/" in found.fix


@pytest.mark.parametrize(
    ("kind", "now"),
    [
        (DriveKind.NVME, "none"),
        (DriveKind.NVME, "mq-deadline"),
        (DriveKind.SSD, "bfq"),
        (DriveKind.VIRTUAL, "none"),
        (DriveKind.HDD, "none"),
        (DriveKind.HDD, "bfq"),
    ],
)
def test_the_same_scheduler_suits_both(home: Path, kind: DriveKind, now: str) -> None:
    drive = disk(L3, drive_kind=kind, drives=(Drive("sdx", kind),))
    context = planned(home, f"tiers.l3.directories=[{L3}]", directories={L3: drive})
    words = " ".join(f"[{w}]" if w == now else w for w in ("none", "mq-deadline", "kyber", "bfq"))
    for folder in ("sys/block", "sys/class/block"):
        put(home, f"{folder}/sdx/queue/scheduler", words)
    found = look("KVT-D311", context)
    wanted = mended(context).get("KVT-D311")
    assert found.ok == (wanted is None)
    if wanted:
        assert f"echo {wanted} | sudo tee /sys/block/sdx/queue/scheduler" in found.fix


@pytest.mark.parametrize("word", ["never", "advise"])
def test_the_same_l2_wants_transparent_hugepages(home: Path, word: str) -> None:
    context = planned(home, "tiers.l2.size=9GiB", memory_available_bytes=32 << 30)
    FakeKernel(context.root).choose(f"{THP}/shmem_enabled", word)
    found = look("KVT-D203", context)
    assert found.ok == (word == "advise")
    assert mended(context) == ({} if found.ok else {"KVT-D203": "advise"})


def test_changes_of_a_launcher_that_is_gone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = planned(home)
    kernel = FakeKernel(context.root)
    kernel.put("/x", 1)
    kernel.apply([number("/x", 1, 2)], OPERATOR)
    assert look("KVT-D217", context).ok  # the operator's own stay until he undoes them
    kernel.put("/y", 1)
    kernel.apply([number("/y", 1, 2)], GONE)
    found = look("KVT-D217", context)
    assert not found.ok
    assert "1 changes of this host, such as /y" in found.current
    assert "sudo kvtier tune --undo" in found.fix
    monkeypatch.setattr(sys, "argv", ["/opt/venv/bin/kvtier", "doctor"])
    assert "`sudo /opt/venv/bin/kvtier tune --undo`" in look("KVT-D217", context).fix
    journal_path().write_text("{")
    assert "cannot be read" in look("KVT-D217", context).current


def test_root_is_told_where_kvtier_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its PATH seldom has a virtual environment."""
    pools = {2 << 20: HugepagePool(10, 8)}
    context = planned(home, "tiers.l2={size: 64MiB, hugepages: 2MiB}", hugepages=pools)
    for program, shown in (("pytest", "kvtier"), ("kvtier", "/opt/venv/bin/kvtier")):
        monkeypatch.setattr(sys, "argv", [f"/opt/venv/bin/{program}", "doctor"])
        told = next(each for each in plan_findings(context) if each.id == "KVT-P011")
        assert told.fix.startswith(f"`sudo {shown} tune {home}/small.yaml` or `echo ")


def test_a_profile_that_is_served_is_told(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its own port and L3 are in use, which is no fault."""
    path = write_profile(home)
    launched = start(home, path, {})
    launched.wait_ready()
    try:
        cli.run(["doctor", str(path), "--only", "server"])
        err = capfd.readouterr().err
        assert "serves this profile now" in err
        assert "--live http://127.0.0.1:" in err
    finally:
        launched.signal(signal.SIGKILL)
        launched.end()
    wait_for(lambda: not any(each.is_alive for each in all_instances()), "the launcher's end")
    cli.run(["doctor", str(path), "--only", "server"])
    assert "serves this profile now" not in capfd.readouterr().err


def test_a_launcher_that_was_killed(home: Path) -> None:
    launched = start(home, write_profile(home), {})
    launched.wait_ready()
    assert look("KVT-D217", Context()).ok
    launched.signal(signal.SIGKILL)
    launched.end()
    wait_for(lambda: not any(each.is_alive for each in all_instances()), "the launcher's end")
    found = look("KVT-D217", Context())
    assert not found.ok
    assert "what was left by small-" in found.current
    assert "`kvtier ps --clean`" in found.fix
