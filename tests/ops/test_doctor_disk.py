"""Checks of L3's directories and of what they lie on: once passing, once failing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ops.builders import disk, make_host
from ops.doctored import all_of, context_of, failing, load, look, of, on_host, put
from support.mounted import dead_server, ext4, mounted

from kvtier_ops.doctor import Context
from kvtier_ops.doctor.examine import examine
from kvtier_ops.host import Drive, DriveKind, probe
from kvtier_ops.plan.measured import disks_file
from kvtier_ops.profile.load import ProfileFile


def with_l3(home: Path, *paths: Path, size: str = "64MiB") -> ProfileFile:
    names = ", ".join(str(path) for path in paths)
    return load(home, f"tiers.l3.directories=[{names}]", f"tiers.l3.size={size}")


@pytest.fixture
def l3(home: Path) -> ProfileFile:
    (home / "pages").mkdir(mode=0o700)
    return with_l3(home, home / "pages")


def lying_on(home: Path, size: str = "64MiB", **file_system: Any) -> Context:
    """A plan with one directory, `home/pages`, on such a file system."""
    path = home / "pages"
    path.mkdir(mode=0o700, exist_ok=True)
    host = make_host(directories={path: disk(path, exists=True, **file_system)})
    (home / "root").mkdir(exist_ok=True)
    return context_of(with_l3(home, path, size=size), host, home / "root")


def test_directory_usable(home: Path, l3: ProfileFile) -> None:
    written = look("KVT-D301", Context(l3.profile))
    assert (written.ok, written.current) == (True, "can be written")
    made = look("KVT-D301", Context(with_l3(home, home / "new/deep").profile))
    assert (made.ok, made.current) == (True, "can be made")
    file = with_l3(home, home / "small.yaml/x")
    assert "is not a directory" in failing("KVT-D301", Context(file.profile)).current


def test_directory_may_not_be_written(l3: ProfileFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written by uid" in failing("KVT-D301", Context(l3.profile)).current


def test_directory_on_a_read_only_mount(home: Path) -> None:
    with mounted("tmpfs", "ro", home / "ro") as place:
        file = with_l3(home, place)
        assert "mounted read-only" in failing("KVT-D301", Context(file.profile)).current


def test_directory_mode(home: Path, l3: ProfileFile) -> None:
    assert of(examine(l3), "KVT-D302").ok
    (home / "pages").chmod(0o755)
    finding = of(examine(l3), "KVT-D302")
    assert not finding.ok
    assert finding.fix == f"`chmod 700 {home}/pages`"
    if os.geteuid() == 0:
        (home / "pages").chmod(0o700)
        os.chown(home / "pages", 12345, -1)
        finding = of(examine(l3), "KVT-D302")
        assert "owned by uid 12345" in finding.current
        assert "`sudo -u '#12345' ...`" in finding.fix, (
            "a service's directory is not root's to take"
        )


def test_the_fix_of_an_owner_is_whole_where_a_shell_has_no_user(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In containers USER is not set: `chown  DIR` would be without an owner."""
    monkeypatch.delenv("USER", raising=False)
    (home / "pages").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    fix = failing("KVT-D301", Context(with_l3(home, home / "pages/new").profile)).fix
    command = fix.split("`")[1].replace("sudo ", "")
    subprocess.run(["sh", "-c", command], check=True)
    assert (home / "pages/new").stat().st_uid == os.geteuid()


def test_direct_io(l3: ProfileFile, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., int] = os.open

    def refuse(path: Path, flags: int, mode: int = 0o777, **more: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return real(path, flags, mode, **more)

    assert of(examine(l3), "KVT-D304").ok or sys.platform != "linux"
    monkeypatch.setattr(os, "open", refuse)
    assert "refuses it: Invalid argument" in failing("KVT-D304", Context(l3.profile)).current


def test_preallocation(home: Path, l3: ProfileFile) -> None:
    assert of(examine(l3), "KVT-D310").ok
    with mounted("ramfs", "mode=700", home / "ramfs") as place:
        found = failing("KVT-D310", Context(with_l3(home, place).profile))
    assert found.current == "the file system refuses it: Operation not supported"
    assert "ext4 or XFS" in found.fix


def test_preallocation_on_a_full_disk(home: Path) -> None:
    """Another file system would be as full: room is what helps."""
    with mounted("tmpfs", "size=512k,mode=700", home / "full") as place:
        found = failing("KVT-D310", Context(with_l3(home, place).profile))
    assert found.current == "the file system refuses it: No space left on device"
    assert found.fix.startswith("it is full, or a quota is used up: free space (`df -h ")
    assert "ext4 or XFS" not in found.fix


@pytest.mark.timeout(30)
def test_a_server_that_does_not_answer_holds_nobody(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks it is held by the kernel until the server comes back."""
    monkeypatch.setattr("kvtier_ops.host.mounts.ANSWER_S_MAX", 0.2)
    with dead_server(home / "far") as far:
        pages = with_l3(home, far / "pages")
        found = examine(pages)
        assert of(found, "KVT-D301").current == "its file server does not answer"
        assert "does not answer" in of(found, "KVT-D201").current
        assert not [each for each in found if each.broke]
        lies_there = examine(load(home, f"model.path={far}/model"))
        assert "does not answer" in of(lies_there, "KVT-D401").current
    assert of(examine(with_l3(home, home / "near")), "KVT-D301").ok


def test_inodes(home: Path, l3: ProfileFile) -> None:
    assert of(examine(l3), "KVT-D309").ok
    with mounted("tmpfs", "size=8m,nr_inodes=40", home / "few") as place:
        found = look("KVT-D309", Context(with_l3(home, place).profile))
    assert not found.ok
    assert "39 of 40 are free" in found.current
    with mounted("tmpfs", "size=8m,nr_inodes=0", home / "many") as place:
        assert not all_of("KVT-D309", Context(with_l3(home, place).profile))


def test_space(home: Path) -> None:
    """200 GiB in all, 100 GiB free, of which the store's reserve is one."""
    assert look("KVT-D308", lying_on(home, "80GiB")).ok
    found = look("KVT-D308", lying_on(home, "98GiB"))
    assert not found.ok
    assert "10.0 GiB free when L3 is full" in found.required
    assert found.current == "2.00 GiB of 200 GiB would be left"
    assert "`tiers.l3.size: 92160MiB`" in found.fix  # 90 GiB
    assert look("KVT-D308", lying_on(home, "92160MiB")).ok


def test_space_of_two_directories_on_one_file_system(home: Path) -> None:
    paths = [home / "a", home / "b"]
    host = make_host(directories={path: disk(path) for path in paths})
    found = failing("KVT-D308", context_of(with_l3(home, *paths, size="98GiB"), host, home))
    assert "L3 takes 98.0 GiB" in found.reason
    assert "92160MiB" in found.fix
    assert len(all_of("KVT-D308", context_of(with_l3(home, *paths), host, home))) == 1


NVME = Drive("nvme0n1", DriveKind.NVME, 3840 * 10**9, "Micron")
HDD = Drive("sda", DriveKind.HDD)


def test_device_behind(home: Path) -> None:
    shown = look("KVT-D305", lying_on(home, drives=(NVME,), layers=("lvm", "partition")))
    assert shown.ok
    assert shown.current == "ext4 on nvme0n1 (nvme, 3.49 TiB) through lvm, partition"


@pytest.mark.parametrize(
    ("kind", "word"), [("tmpfs", "memory"), ("nfs4", "network"), ("overlay", "container's own")]
)
def test_a_directory_that_is_on_no_disk_is_one_finding(home: Path, kind: str, word: str) -> None:
    kinds = {"tmpfs": DriveKind.MEMORY, "nfs4": DriveKind.NETWORK, "overlay": DriveKind.OVERLAY}
    context = lying_on(home, kind=kind, drive_kind=kinds[kind])
    assert not all_of("KVT-D305", context), "with a plan it is KVT-P006"
    assert "KVT-P006" in {each.id for each in context.plan.warnings} if context.plan else False
    if kind == "tmpfs":
        with mounted("tmpfs", "size=8m", home / "memory") as place:
            found = look("KVT-D305", Context(with_l3(home, place).profile))
        assert (found.ok, word in found.current) == (False, True)


def test_an_overlay_without_a_plan(home: Path) -> None:
    with mounted("tmpfs", "size=8m", home / "layers") as layers:
        for name in ("lower", "upper", "work", "top"):
            (layers / name).mkdir()
        options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
        with mounted("overlay", options, layers / "top") as place:
            found = look("KVT-D305", Context(with_l3(home, place).profile))
            assert not found.ok
            assert "a container's own layer" in found.current


def test_rotational(home: Path) -> None:
    assert look("KVT-D306", lying_on(home, drives=(NVME,))).ok
    found = failing("KVT-D306", lying_on(home, drives=(NVME, HDD), layers=("raid0",)))
    assert found.current == "sda turns"
    assert "computing a prompt of" in found.reason


def test_mount_options(home: Path) -> None:
    assert look("KVT-D307", lying_on(home, options=("rw", "relatime", "discard"))).ok
    found = failing("KVT-D307", lying_on(home, options=("rw", "sync", "data=journal")))
    assert "`sync`: every write waits for the drive" in found.current
    assert "`data=journal`: every page is written twice" in found.current
    assert "remount,async /" in found.fix
    btrfs = lying_on(home, kind="btrfs", options=("rw", "compress=zstd:3"))
    assert f"btrfs property set {home}/pages compression none" in look("KVT-D307", btrfs).fix


def test_mount_options_of_a_real_mount(home: Path) -> None:
    with ext4(home, "rw") as place:
        assert look("KVT-D307", Context(with_l3(home, place).profile)).ok
    with ext4(home, "rw,sync") as place:
        found = look("KVT-D307", Context(with_l3(home, place).profile))
        behind = look("KVT-D305", Context(with_l3(home, place).profile))
    assert "`sync`: every write waits" in found.current
    assert f"remount,async {place}" in found.fix
    assert "ext4 on " in behind.current
    assert "loop" in behind.current


@pytest.mark.parametrize(
    ("drive", "scheduler", "best"),
    [
        (NVME, "[none] mq-deadline kyber bfq", ""),
        (NVME, "none [mq-deadline] kyber bfq", "none"),
        (HDD, "none [mq-deadline] bfq", ""),
        (HDD, "[none] bfq", "bfq"),
        (Drive("sdb", DriveKind.SSD), "none [bfq]", "none"),
        (Drive("vdb", DriveKind.VIRTUAL), "[mq-deadline] none", ""),
    ],
)
def test_scheduler(home: Path, drive: Drive, scheduler: str, best: str) -> None:
    put(home, f"sys/class/block/{drive.name}/queue/scheduler", scheduler + "\n")
    found = look("KVT-D311", lying_on(home, drives=(drive,)))
    assert found.ok is (not best)
    if best:
        assert found.fix == (
            f"`sudo kvtier tune {home}/small.yaml`, or `echo {best} | sudo tee "
            f"/sys/block/{drive.name}/queue/scheduler`"
        )


def test_scheduler_of_a_drive_is_told_once(home: Path) -> None:
    put(home, "sys/class/block/nvme0n1/queue/scheduler", "none [bfq]\n")
    paths = [home / "a", home / "b"]
    host = make_host(directories={path: disk(path, drives=(NVME,)) for path in paths})
    context = context_of(with_l3(home, *paths), host, home / "root")
    assert len(all_of("KVT-D311", context)) == 1


def measured(read: float, write: float, key: str = "nvme0n1") -> None:
    path = disks_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {"read_bytes_per_s": read, "write_bytes_per_s": write, "when": "2026-05-01T10:00"}
    path.write_text(json.dumps({key: said}))


def test_measured_rate(home: Path) -> None:
    context = lying_on(home, drives=(NVME,), drive_kind=DriveKind.NVME)
    assert not all_of("KVT-D312", context)
    measured(4e9, 1.5e9)
    assert look("KVT-D312", context).ok
    measured(4e9, 0.5e9)
    assert not look("KVT-D312", context).ok
    measured(0.4e9, 1.5e9)
    found = failing("KVT-D312", context)
    assert found.current == "400 MB/s read and 1.50 GB/s written on 2026-05-01"
    assert "5.00 GB/s read and 2.00 GB/s written" in found.required
    assert f"kvtier bench disk {home}/pages" in found.fix
    assert "`smartctl -a /dev/nvme0n1`" in found.fix


@pytest.mark.parametrize(
    ("kind", "told"),
    [(DriveKind.MEMORY, "lies in memory"), (DriveKind.NETWORK, "file server")],
)
def test_what_is_no_drive_has_no_smart(home: Path, kind: DriveKind, told: str) -> None:
    context = lying_on(home, drives=(), drive_kind=kind, device="nvme0n1")
    assert context.prepared is not None
    [directory] = context.prepared.host.directories.values()
    measured(1e6, 1e6, directory.on.key)
    found = failing("KVT-D312", context)
    assert told in found.fix
    assert "smartctl" not in found.fix


def test_no_disk_no_check(home: Path) -> None:
    findings = examine(load(home))
    assert not [each for each in findings if each.group == "disk"]
    off = load(home, f"tiers.l3.directories=[{home}/pages]", "tiers.l3.size=0GiB")
    assert not [each for each in examine(off) if each.group == "disk"]
    assert not all_of("KVT-D301", Context(off.profile)), "also where there is no plan"


def test_a_probe_that_has_changed_since_is_not_a_crash(home: Path, l3: ProfileFile) -> None:
    context = context_of(l3, probe(directories=[home / "pages"]), Path("/"))
    gone = on_host(context, directories={})
    assert look("KVT-D305", gone).current
    assert not [each for each in examine(l3) if each.broke]
