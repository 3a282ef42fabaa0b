"""The hosts of tests/data/hosts: built here, recorded there.

`PYTHONPATH=tests python -m ops.fake_fleet` records them again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ops.fake_host import GIB, MIB, FakeHost, Hardware

from kvtier_ops.host import Gpu, Host
from kvtier_ops.host.record import host_as_text

HOSTS = Path(__file__).resolve().parent.parent / "data" / "hosts"
TB = 10**12


def _named(fake: FakeHost, name: str, cpu: str) -> Host:
    fake.file("proc/sys/kernel/hostname", name)
    fake.file("proc/cpuinfo", f"processor : 0\nmodel name\t: {cpu}\n")
    return fake.host()


def _nvme(slot: int, size: int, node: int = -1, model: str = "SAMSUNG MZQL23T8HCLS") -> Hardware:
    place = f"pci0000:{0x10 + slot:02x}/0000:{0x10 + slot:02x}:00.0"
    return Hardware(model=model, bytes=size, place=place, numa_node=node)


def _two_sockets(fake: FakeHost) -> None:
    half, cpus = fake.memory_bytes // 2, fake.cpus // 4
    fake.file("sys/devices/system/node/online", "0-1\n")
    for node, distances in ((0, "10 21"), (1, "21 10")):
        first, second = node * cpus, (node + 2) * cpus
        text = f"{first}-{first + cpus - 1},{second}-{second + cpus - 1}"
        fake.node(node, half, text, distances)


def laptop(root: Path) -> Host:
    """One socket, everything encrypted on one NVMe drive."""
    fake = FakeHost(root, memory_bytes=16 * GIB, cpus=16)
    fake.file("sys/devices/system/node/online", "0\n")
    fake.node(0, 16 * GIB, "0-15", "10")
    drive = fake.drive("nvme0n1", _nvme(0, TB, model="WD_BLACK SN850X 1000GB"))
    boot, locked = fake.partition(drive, 1), fake.partition(drive, 2)
    luks = fake.mapped("dm-0", "CRYPT-LUKS2-0f", [locked])
    volumes = [fake.mapped(f"dm-{i}", "LVM-7k", [luks]) for i in (1, 2)]
    fake.mount("/boot/efi", "vfat", boot, room=(GIB, GIB // 2))
    for point, volume, total in (("/", volumes[0], 100), ("/home", volumes[1], 800)):
        name = f"/dev/mapper/vg-{point.strip('/') or 'root'}"
        fake.mount(point, "ext4", volume, source=name, room=(total * GIB, total * GIB // 2))
    return _named(fake, "laptop", "AMD Ryzen 7 7840U w/ Radeon 780M Graphics")


def server(root: Path) -> Host:
    """Two sockets, eight GPUs, 200,000 hugepages; two drives by themselves, two striped."""
    fake = FakeHost(root, memory_bytes=512 * GIB, available_bytes=105 * GIB, cpus=128)
    _two_sockets(fake)
    fake.hugepages("sys/kernel/mm", 2 * MIB, 200_000, 200_000)
    for node in (0, 1):
        fake.hugepages(f"sys/devices/system/node/node{node}", 2 * MIB, 100_000, 100_000)
    system = fake.drive("nvme0n1", _nvme(0, 960 * 10**9, 0, "SAMSUNG MZ1L2960HCJR"))
    fake.mount("/", "ext4", fake.partition(system, 2), room=(880 * GIB, 700 * GIB))
    drives = [fake.drive(f"nvme{i}n1", _nvme(i, 3_840_755_982_336, i // 3)) for i in (1, 2, 3, 4)]
    for number, drive in enumerate(drives[:2]):
        fake.mount(f"/mnt/nvme{number}", "xfs", drive, room=(3570 * GIB, 3540 * GIB))
    stripe = fake.raid("md0", "raid0", drives[2:])
    fake.mount("/mnt/raid", "xfs", stripe, room=(7140 * GIB, 7090 * GIB))
    gpu = Gpu("NVIDIA H100 80GB HBM3", 81559 * MIB, 81079 * MIB, 0, 5, 16)
    host = _named(fake, "gpu-01", "Intel(R) Xeon(R) Platinum 8462Y+")
    return replace(host, gpus=tuple(replace(gpu, numa_node=i // 4) for i in range(8)))


def container(root: Path) -> Host:
    """64 GiB of a host of 256, a layer of its own, and an emptyDir on the node's NVMe drive."""
    fake = FakeHost(root, memory_bytes=256 * GIB, cpus=64)
    _two_sockets(fake)
    fake.file("proc/self/cgroup", "0::/\n")
    fake.file("sys/fs/cgroup/memory.max", f"{64 * GIB}\n")
    fake.file("sys/fs/cgroup/memory.current", f"{3 * GIB}\n")
    fake.file("sys/fs/cgroup/memory.stat", f"inactive_file {2 * GIB}\n")
    fake.file("sys/fs/cgroup/cpu.max", "1600000 100000\n")
    options = "rw,lowerdir=/var/lib/containerd/1/fs,upperdir=/var/lib/containerd/2/fs"
    room = (440 * GIB, 300 * GIB)
    fake.mount("/", "overlay", "0:345", source="overlay", options=options, room=room)
    fake.mount("/dev/shm", "tmpfs", "0:350", source="shm", room=(64 * MIB, 64 * MIB))
    drive = fake.drive("nvme1n1", _nvme(1, 1_920_383_410_176, 0, "INTEL SSDPE2KX020T8"))
    fake.mount("/var/lib/kvtier", "ext4", drive, room=(1760 * GIB, 1600 * GIB))
    return _named(fake, "kvtier-7d9c4b5f6-x2x8q", "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz")


def vm(root: Path) -> Host:
    """Four virtual CPUs, no NUMA nodes, a disk whose nature is the provider's secret."""
    fake = FakeHost(root, memory_bytes=8 * GIB, cpus=4)
    disk = fake.drive("vda", Hardware(vendor="0x1af4", rotational=True, bytes=80 * GIB))
    fake.mount("/", "ext4", fake.partition(disk, 1), room=(78 * GIB, 60 * GIB))
    return _named(fake, "vm-small", "Intel Xeon Processor (Skylake, IBRS)")


def workstation(root: Path) -> Host:
    """One GPU, a SATA SSD and a hard disk."""
    fake = FakeHost(root, memory_bytes=64 * GIB, cpus=24)
    fake.file("sys/devices/system/node/online", "0\n")
    fake.node(0, 64 * GIB, "0-23", "10")
    ssd = Hardware("Samsung SSD 870 EVO 2TB", "ATA", False, 2 * TB, "pci0000:00/0000:00:17.0/ata1")
    hdd = Hardware("ST8000VN004-3CP1", "ATA", True, 8 * TB, "pci0000:00/0000:00:17.0/ata2")
    fake.mount("/", "ext4", fake.partition(fake.drive("sda", ssd), 2), room=(1830 * GIB, 900 * GIB))
    fake.mount("/data", "ext4", fake.partition(fake.drive("sdb", hdd), 1), room=(7300 * GIB, TB))
    gpu = Gpu("NVIDIA GeForce RTX 4090", 24564 * MIB, 23900 * MIB, None, 4, 16)
    return replace(_named(fake, "desk", "13th Gen Intel(R) Core(TM) i7-13700K"), gpus=(gpu,))


def cluster_node(root: Path) -> Host:
    """One of two nodes: eight GPUs, models on NFS, two NVMe drives of its own."""
    fake = FakeHost(root, memory_bytes=1024 * GIB, cpus=256)
    _two_sockets(fake)
    for i in (0, 1):
        drive = fake.drive(f"nvme{i}n1", _nvme(i, 3_840_755_982_336, i))
        fake.mount(f"/mnt/nvme{i}", "xfs", drive, room=(3570 * GIB, 3540 * GIB))
    ssd = fake.drive("sda", Hardware("MTFDDAK480TDS", "ATA", False, 480 * 10**9))
    fake.mount("/", "ext4", fake.partition(ssd, 2), room=(430 * GIB, 350 * GIB))
    options = "rw,vers=4.2,rsize=1048576,wsize=1048576,hard,proto=tcp,addr=10.0.0.5"
    room = (200 * 1024 * GIB, 60 * 1024 * GIB)
    fake.mount("/models", "nfs4", "0:60", source="10.0.0.5:/models", options=options, room=room)
    gpu = Gpu("NVIDIA A100-SXM4-80GB", 81920 * MIB, 81400 * MIB, 0, 4, 16)
    host = _named(fake, "node-0", "AMD EPYC 7763 64-Core Processor")
    return replace(host, gpus=tuple(replace(gpu, numa_node=i // 4) for i in range(8)))


FLEET: dict[str, Callable[[Path], Host]] = {
    "laptop": laptop,
    "server": server,
    "container": container,
    "vm": vm,
    "workstation": workstation,
    "cluster-node": cluster_node,
}


def record_all() -> None:
    HOSTS.mkdir(exist_ok=True)
    for name, build in FLEET.items():
        with tempfile.TemporaryDirectory() as folder:
            (HOSTS / f"{name}.json").write_text(host_as_text(build(Path(folder))))


if __name__ == "__main__":
    record_all()
