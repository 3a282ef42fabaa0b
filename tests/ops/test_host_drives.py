"""Which drives keep the bytes of a file system: every chain that Linux builds between the two."""

from __future__ import annotations

from pathlib import Path

import pytest
from ops.fake_host import GIB, FakeHost, Hardware

from kvtier_ops.host import DriveKind

NVME = Hardware(model="SAMSUNG MZQL23T8HCLS-00A07", bytes=3840 * GIB, numa_node=1)
DISK = Hardware(model="ST4000NM0035", vendor="ATA", rotational=True)


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def names(fake: FakeHost, path: str = "/data") -> list[str]:
    return [drive.name for drive in fake.at(path).drives]


def test_a_whole_drive(fake: FakeHost) -> None:
    fake.mount("/data", "xfs", fake.drive("nvme0n1", NVME), room=(50, 20))
    found = fake.at("/data/pages")
    assert (found.kind, found.device, found.mount_point) == ("xfs", "/dev/nvme0n1", Path("/data"))
    assert (found.total_bytes, found.free_bytes) == (50, 20)
    assert (found.drive_kind, found.layers) == (DriveKind.NVME, ())
    [drive] = found.drives
    assert (drive.name, drive.kind, drive.size_bytes) == ("nvme0n1", DriveKind.NVME, 3840 * GIB)
    assert (drive.model, drive.numa_node) == ("SAMSUNG MZQL23T8HCLS-00A07", 1)


@pytest.mark.parametrize(("name", "expected"), [("nvme0n1", "nvme0n1"), ("sda", "sda")])
def test_a_partition(fake: FakeHost, name: str, expected: str) -> None:
    fake.mount("/data", "ext4", fake.partition(fake.drive(name), 3))
    assert fake.at("/data").layers == ("partition",)
    assert names(fake) == [expected]


def test_the_node_of_a_drive_is_its_controllers(fake: FakeHost) -> None:
    fake.mount("/data", "ext4", fake.partition(fake.drive("sda", Hardware(numa_node=1)), 1))
    fake.mount("/none", "ext4", fake.drive("nvme0n1", Hardware(place="pci0000:80/0000:80:01.0")))
    assert fake.at("/data").drives[0].numa_node == 1
    assert fake.at("/none").drives[0].numa_node is None


def test_lvm_over_two_physical_volumes(fake: FakeHost) -> None:
    below = [fake.partition(fake.drive(f"nvme{i}n1", _at(i)), 1) for i in range(2)]
    fake.mount("/data", "xfs", fake.mapped("dm-0", "LVM-aBc", below))
    assert fake.at("/data").layers == ("lvm", "partition")
    assert names(fake) == ["nvme0n1", "nvme1n1"]


def test_a_mix_is_as_slow_as_its_slowest(fake: FakeHost) -> None:
    below = [fake.drive("nvme0n1", NVME), fake.drive("sda", DISK)]
    fake.mount("/data", "xfs", fake.mapped("dm-0", "LVM-aBc", below))
    assert fake.at("/data").drive_kind == DriveKind.HDD


@pytest.mark.parametrize("level", ["raid0", "raid1", "raid10"])
def test_raid(fake: FakeHost, level: str) -> None:
    below = [fake.drive(f"nvme{i}n1", _at(i)) for i in range(4)]
    fake.mount("/data", "xfs", fake.raid("md0", level, below))
    assert fake.at("/data").layers == (level,)
    assert names(fake) == [f"nvme{i}n1" for i in range(4)]


def test_lvm_on_luks_on_a_partition(fake: FakeHost) -> None:
    locked = fake.mapped("dm-0", "CRYPT-LUKS2-x", [fake.partition(fake.drive("nvme0n1"), 3)])
    fake.mount("/", "ext4", fake.mapped("dm-1", "LVM-x", [locked]), source="/dev/mapper/vg-root")
    assert fake.at("/").layers == ("lvm", "luks", "partition")
    assert fake.at("/").drive_kind == DriveKind.NVME


def test_a_partition_of_a_multipath_drive(fake: FakeHost) -> None:
    paths = [fake.drive(name, _at(i, vendor="LIO-ORG")) for i, name in enumerate(("sda", "sdb"))]
    whole = fake.mapped("dm-0", "mpath-36001405", paths)
    fake.mount("/data", "xfs", fake.mapped("dm-1", "part1-mpath-36001405", [whole]))
    assert fake.at("/data").layers == ("partition", "multipath")
    assert fake.at("/data").drive_kind == DriveKind.NETWORK


def test_everything_at_once(fake: FakeHost) -> None:
    parts = [fake.partition(fake.drive(f"nvme{i}n1", _at(i)), 1) for i in range(2)]
    array = fake.raid("md0", "raid1", parts)
    locked = fake.mapped("dm-0", "CRYPT-LUKS2-x", [array])
    fake.mount("/big", "xfs", fake.mapped("dm-1", "LVM-x", [locked]))
    fake.mount("/data", "ext4", fake.loop("loop0", "/big/image"))
    assert fake.at("/data").layers == ("loop", "lvm", "luks", "raid1", "partition")
    assert names(fake) == ["nvme0n1", "nvme1n1"]


def test_a_loop_in_memory(fake: FakeHost) -> None:
    fake.mount("/dev/shm", "tmpfs", "0:25")
    fake.mount("/data", "ext4", fake.loop("loop0", "/dev/shm/image"))
    assert fake.at("/data").drive_kind == DriveKind.MEMORY


def test_a_loop_on_a_network(fake: FakeHost) -> None:
    fake.mount("/nfs", "nfs4", "0:50", source="filer:/export")
    fake.mount("/data", "ext4", fake.loop("loop0", "/nfs/image"))
    assert fake.at("/data").drive_kind == DriveKind.NETWORK


def test_a_loop_in_its_own_file_system_ends(fake: FakeHost) -> None:
    fake.mount("/data", "ext4", fake.loop("loop0", "/data/image"))
    assert fake.at("/data").drive_kind == DriveKind.UNKNOWN


@pytest.mark.parametrize(
    ("name", "hardware", "kind"),
    [
        ("sda", Hardware(model="SAMSUNG MZ7L3", vendor="ATA"), DriveKind.SSD),
        ("sda", DISK, DriveKind.HDD),
        ("sda", Hardware(model="QEMU HARDDISK", vendor="QEMU", rotational=True), DriveKind.VIRTUAL),
        ("sda", Hardware(model="Virtual disk", vendor="VMware", rotational=True), "virtual"),
        ("sda", Hardware(model="Virtual Disk", vendor="Msft", rotational=True), "virtual"),
        ("sda", Hardware(model="PersistentDisk", vendor="Google"), DriveKind.NETWORK),
        ("sda", Hardware(rotational=None), DriveKind.UNKNOWN),
        ("vda", Hardware(rotational=True), DriveKind.VIRTUAL),
        ("xvda", Hardware(), DriveKind.VIRTUAL),
        ("nvme0n1", Hardware(model="Amazon Elastic Block Store"), DriveKind.NETWORK),
        ("nvme0n1", Hardware(model="Amazon EC2 NVMe Instance Storage"), DriveKind.NVME),
        ("nvme0n1", Hardware(model="nvme_card"), DriveKind.NVME),
        ("nvme0n1", Hardware(model="nvme_card-pd"), DriveKind.NETWORK),
        ("nvme0n1", Hardware(model="MSFT NVMe Accelerator v1.0"), DriveKind.NETWORK),
        ("nvme0n1", Hardware(model="Microsoft NVMe Direct Disk v2"), DriveKind.NVME),
        ("nbd0", Hardware(), DriveKind.NETWORK),
        ("rbd0", Hardware(), DriveKind.NETWORK),
        ("drbd0", Hardware(), DriveKind.NETWORK),
        ("whatever", Hardware(), DriveKind.UNKNOWN),
    ],
)
def test_kinds(fake: FakeHost, name: str, hardware: Hardware, kind: str) -> None:
    fake.mount("/data", "ext4", fake.drive(name, hardware))
    assert fake.at("/data").drive_kind == kind


def test_nvme_over_a_network(fake: FakeHost) -> None:
    drive = fake.drive("nvme0n1", NVME)
    (drive.folder / "device/transport").write_text("rdma\n")
    fake.mount("/data", "ext4", drive)
    assert fake.at("/data").drive_kind == DriveKind.NETWORK


def test_slaves_in_a_circle_end(fake: FakeHost) -> None:
    first = fake.mapped("dm-0", "LVM-x", [])
    second = fake.mapped("dm-1", "LVM-x", [first])
    (first.folder / "slaves/dm-1").symlink_to(second.folder)
    fake.mount("/data", "ext4", second)
    assert fake.at("/data").drive_kind == DriveKind.UNKNOWN
    assert fake.at("/data").drives == ()


def test_links_that_lead_to_themselves_end(fake: FakeHost) -> None:
    device = fake.mapped("dm-0", "LVM-x", [])
    (device.folder / "slaves/self").symlink_to("self")
    fake.mount("/data", "ext4", device)
    assert fake.at("/data").drive_kind == DriveKind.UNKNOWN


def test_many_drives_end(fake: FakeHost) -> None:
    below = [fake.drive(f"nvme{i}n1", _at(i)) for i in range(60)]
    fake.mount("/data", "xfs", fake.raid("md0", "raid0", below))
    assert len(fake.at("/data").drives) == 60


@pytest.mark.parametrize(
    "damage",
    ["size", "queue/rotational", "device/model", "device/vendor", "device/transport"],
)
@pytest.mark.parametrize("text", ["", "-7", "rubbish\0", "9" * 5000, "\udcff"])
def test_damaged_entries_are_as_if_missing(fake: FakeHost, damage: str, text: str) -> None:
    drive = fake.drive("sda", DISK)
    path = drive.folder / damage
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    fake.mount("/data", "ext4", drive)
    [found] = fake.at("/data").drives
    assert found.name == "sda"
    assert found.size_bytes >= 0


@pytest.mark.parametrize("gone", ["slaves", "dm/uuid", "dm"])
def test_missing_entries_are_unknown(fake: FakeHost, gone: str) -> None:
    device = fake.mapped("dm-0", "LVM-x", [fake.drive("nvme0n1")])
    path = device.folder / gone
    path.rename(device.folder / "elsewhere")
    fake.mount("/data", "ext4", device)
    expected = DriveKind.NVME if gone == "dm/uuid" else DriveKind.UNKNOWN
    assert fake.at("/data").drive_kind == expected


def _at(number: int, vendor: str = "") -> Hardware:
    return Hardware(place=f"pci0000:00/0000:00:{number + 1:02x}.0", vendor=vendor)
