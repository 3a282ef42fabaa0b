"""The file system that a path lies on, and the list of all that a host has."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.fake_host import GIB, FakeHost, Hardware

from kvtier_ops.errors import HostError
from kvtier_ops.host import DriveKind, probe
from kvtier_ops.host.mounts import Mount, MountTable, _is_folder


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def test_the_longest_mount_point_holds_a_path(fake: FakeHost) -> None:
    fake.mount("/", "ext4", fake.drive("sda"))
    fake.mount("/data", "xfs", fake.drive("nvme0n1", Hardware(place="pci0000:00/x")))
    assert fake.at("/data").kind == "xfs"
    assert fake.at("/data/a/b").kind == "xfs"
    assert fake.at("/database").kind == "ext4"
    assert fake.at("/").kind == "ext4"


def test_what_is_mounted_later_hides_what_was_there(fake: FakeHost) -> None:
    fake.mount("/data", "ext4", fake.drive("sda"))
    fake.mount("/data", "tmpfs", "0:50")
    assert fake.at("/data/x").kind == "tmpfs"


def test_spaces_in_names(fake: FakeHost) -> None:
    fake.mount("/my\\040data", "tmpfs", "0:50", source="a\\134b")
    assert fake.at("/my data/x").mount_point == Path("/my data")
    assert fake.at("/my data/x").device == "a\\b"


def test_bind_mounts_are_one_file_system(fake: FakeHost) -> None:
    drive = fake.drive("nvme0n1")
    fake.mount("/data", "xfs", drive)
    fake.mount("/srv/pages", "xfs", drive)
    assert fake.at("/data").device_id == fake.at("/srv/pages").device_id != 0
    assert fake.at("/srv/pages").drive_kind == DriveKind.NVME


def test_options_of_mount_and_of_file_system(fake: FakeHost) -> None:
    fake.mount("/data", "xfs", fake.drive("nvme0n1"), options="rw,nodiratime,logbsize=32k")
    assert fake.at("/data").options == ("rw", "relatime", "nodiratime", "logbsize=32k")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("tmpfs", DriveKind.MEMORY),
        ("nfs", DriveKind.NETWORK),
        ("nfs4", DriveKind.NETWORK),
        ("cifs", DriveKind.NETWORK),
        ("smb3", DriveKind.NETWORK),
        ("ceph", DriveKind.NETWORK),
        ("lustre", DriveKind.NETWORK),
        ("gpfs", DriveKind.NETWORK),
        ("beegfs", DriveKind.NETWORK),
        ("fuse.sshfs", DriveKind.NETWORK),
        ("fuse.gcsfuse", DriveKind.NETWORK),
        ("fuse.juicefs", DriveKind.NETWORK),
        ("9p", DriveKind.VIRTUAL),
        ("virtiofs", DriveKind.VIRTUAL),
        ("fuse.whatever", DriveKind.UNKNOWN),
        ("zfs", DriveKind.UNKNOWN),
        ("ext4", DriveKind.UNKNOWN),  # of a device that /sys does not have
    ],
)
def test_file_systems_without_a_drive_of_their_own(
    fake: FakeHost, kind: str, expected: DriveKind
) -> None:
    fake.mount("/data", kind, "0:60", source="filer:/export")
    assert fake.at("/data").drive_kind == expected
    assert fake.at("/data").drives == ()


def test_btrfs_has_a_number_of_no_device(fake: FakeHost) -> None:
    """Its drives are those of the pool, whichever of them was mounted."""
    places = (Hardware(place="pci0000:00/a"), Hardware(place="pci0000:00/b"))
    drives = [fake.drive(f"nvme{i}n1", place) for i, place in enumerate(places)]
    pool = fake.root / "sys/fs/btrfs/0b1c/devices"
    pool.mkdir(parents=True)
    for drive in drives:
        (pool / drive.name).symlink_to(drive.folder)
    fake.mount("/data", "btrfs", "0:38", source="/dev/nvme0n1", options="rw,subvol=/data")
    fake.mount("/home", "btrfs", "0:38", source="/dev/nvme0n1", options="rw,subvol=/home")
    found = fake.at("/data")
    assert found.drive_kind == DriveKind.NVME
    assert [drive.name for drive in found.drives] == ["nvme0n1", "nvme1n1"]
    assert found.device_id == fake.at("/home").device_id


def test_btrfs_on_luks_by_its_mapped_name(fake: FakeHost) -> None:
    device = fake.mapped("dm-0", "CRYPT-LUKS2-x", [fake.partition(fake.drive("nvme0n1"), 2)])
    assert device.name == "dm-0"
    fake.mount("/data", "btrfs", "0:38", source="/dev/mapper/the-dm-0")
    assert fake.at("/data").layers == ("luks", "partition")
    assert fake.at("/data").drive_kind == DriveKind.NVME


def test_overlay_where_its_upper_directory_is_visible(fake: FakeHost) -> None:
    fake.mount("/", "ext4", fake.partition(fake.drive("nvme0n1"), 2))
    upper = "rw,lowerdir=/l,upperdir=/var/lib/docker/o/1/diff,workdir=/w"
    fake.mount("/merged", "overlay", "0:70", source="overlay", options=upper)
    found = fake.at("/merged")
    assert (found.drive_kind, found.layers) == (DriveKind.OVERLAY, ("overlay", "partition"))
    assert [drive.name for drive in found.drives] == ["nvme0n1"]


def test_overlay_of_a_container(fake: FakeHost) -> None:
    upper = "rw,lowerdir=/l,upperdir=/var/lib/docker/o/1/diff,workdir=/w"
    fake.mount("/", "overlay", "0:70", source="overlay", options=upper)
    assert (fake.at("/").drive_kind, fake.at("/").drives) == (DriveKind.OVERLAY, ())


def test_overlays_over_one_another_end(fake: FakeHost) -> None:
    for here, below in (("/a", "/b"), ("/b", "/a")):
        options = f"rw,upperdir={below}/up"
        fake.mount(here, "overlay", "0:70", source="overlay", options=options)
    assert fake.at("/a").drive_kind == DriveKind.OVERLAY


def test_all_file_systems_leave_out_what_keeps_no_pages(fake: FakeHost) -> None:
    fake.mount("/", "ext4", fake.drive("sda"))
    fake.mount("/dev/shm", "tmpfs", "0:25")
    fake.mount("/systems", "xfs", fake.drive("nvme0n1", Hardware(place="pci0000:00/x")))
    fake.mount("/nfs", "nfs4", "0:50", source="filer:/export")
    for point, kind in (
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/sys/fs/cgroup", "cgroup2"),
        ("/dev", "devtmpfs"),
        ("/run", "tmpfs"),
        ("/run/user/0", "tmpfs"),
        ("/snap/core/1", "squashfs"),
        ("/mnt/iso", "iso9660"),
    ):
        fake.mount(point, kind, "0:30")
    found = [str(each.mount_point) for each in fake.table().all()]
    assert found == ["/", "/dev/shm", "/nfs", "/systems"]


def test_one_that_does_not_answer_is_left_out(fake: FakeHost) -> None:
    fake.mount("/", "ext4", fake.drive("sda"))
    fake.mount("/gone", "nfs4", "0:50")
    del fake._usage[Path("/gone")]
    assert [str(each.mount_point) for each in fake.table().all()] == ["/"]


def test_free_space_is_never_more_than_all(fake: FakeHost) -> None:
    fake.mount("/data", "ext4", fake.drive("sda"), room=(10, 20))
    assert fake.at("/data").free_bytes == 10


LINE = "30 1 8:0 / / rw shared:1 - ext4 /dev/sda rw"


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.builds(
            lambda words, at, new: " ".join([*words[:at], new, *words[at + 1 :]]),
            st.just(LINE.split()),
            st.integers(0, 10),
            st.text(st.characters(codec="utf-8"), max_size=300),
        ),
    )
)
def test_no_line_of_mountinfo_makes_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, line: str
) -> None:
    fake = FakeHost(tmp_path_factory.mktemp("host"))
    fake.drive("sda")
    path = fake.root / "proc/self/mountinfo"
    path.parent.mkdir(parents=True)
    path.write_text(f"{LINE}\n{line}\n")
    table = MountTable(fake.root, lambda point: (GIB, GIB))
    assert table.holding(Path("/x/y")).drive_kind in DriveKind
    assert table.all()


@pytest.mark.parametrize("number", ["8:" + "0" * 5000, "../../..", "", "a:b", "8"])
def test_numbers_that_are_none(fake: FakeHost, number: str) -> None:
    fake.mount("/data", "ext4", number, source="/dev/" + "x" * 5000)
    assert fake.at("/data").drive_kind == DriveKind.UNKNOWN


def test_without_mountinfo_a_directory_still_has_its_space(fake: FakeHost, home: Path) -> None:
    found = MountTable(fake.root).holding(home)
    assert (found.kind, found.drive_kind) == ("", DriveKind.UNKNOWN)
    assert 0 < found.free_bytes <= found.total_bytes


def test_a_directory_through_a_link_lies_where_the_link_leads(fake: FakeHost, home: Path) -> None:
    (home / "there").mkdir()
    (home / "link").symlink_to(home / "there")
    fake.mount("/", "ext4", fake.drive("sda"))
    fake.mount(str(home / "there"), "xfs", "0:60")
    fake.table()
    fake.file("proc/meminfo", "MemTotal: 1024 kB\n")
    host = probe(fake.root, [home / "link/pages"])
    assert host.directories[home / "link/pages"].on.kind == "xfs"


def test_a_directory_that_cannot_be_looked_at_is_an_error(fake: FakeHost, home: Path) -> None:
    fake.file("proc/meminfo", "MemTotal: 1024 kB\n")
    with pytest.raises(HostError, match="cannot look at"):
        probe(fake.root, [home / ("a" * 300) / "pages"])


@pytest.fixture
def loop_mount(tmp_path: Path) -> Iterator[Path]:
    """An ext4 in a file in memory, mounted through a loop device; needs root."""
    point, image = tmp_path / "loop", Path("/dev/shm") / f"kvtier-test-{os.getpid()}.img"
    tools = all(map(shutil.which, ("mkfs.ext4", "mount", "umount")))
    if os.geteuid() != 0 or not tools or not os.path.ismount("/dev/shm"):
        pytest.skip("needs root, mkfs.ext4 and /dev/shm")
    point.mkdir()
    try:
        with image.open("wb") as file:
            file.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        mounted = subprocess.run(["mount", "-o", "loop", image, point], capture_output=True)
        if mounted.returncode:
            pytest.skip(f"cannot mount here: {mounted.stderr.decode().strip()}")
        yield point
    finally:
        subprocess.run(["umount", point], capture_output=True)
        image.unlink(missing_ok=True)


def test_a_real_loop_in_memory(loop_mount: Path) -> None:
    (loop_mount / "pages").mkdir()
    host = probe(directories=[loop_mount / "pages" / "new"], everything=True)
    found = host.directories[loop_mount / "pages" / "new"].on
    assert (found.mount_point, found.kind) == (loop_mount.resolve(), "ext4")
    assert (found.layers, found.drive_kind) == (("loop",), DriveKind.MEMORY)
    assert 8 << 20 < found.total_bytes < 16 << 20
    assert found.mount_point in [each.mount_point for each in host.file_systems]


def test_a_real_bind_mount(loop_mount: Path, tmp_path: Path) -> None:
    point = tmp_path / "bound"
    point.mkdir()
    (loop_mount / "inner").mkdir()
    subprocess.run(["mount", "--bind", loop_mount / "inner", point], check=True)
    try:
        found = probe(directories=[point, loop_mount]).directories
        assert found[point].on.device_id == found[loop_mount].on.device_id
        assert found[point].on.mount_point == point
        assert found[point].on.drive_kind == DriveKind.MEMORY
    finally:
        subprocess.run(["umount", point], check=True)


def test_a_server_that_does_not_answer_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`stat` hangs on a dead one; whoever lists mounts must not."""
    (tmp_path / "stat").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "stat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("kvtier_ops.host.mounts.ANSWER_S_MAX", 0.05)
    mount = Mount("0:50", tmp_path, "nfs4", "server:/x", ())
    assert not _is_folder(mount)
    assert _is_folder(replace(mount, kind="ext4"))
