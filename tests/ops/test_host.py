"""The host, from captured /proc and /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtier_ops.errors import HostError
from kvtier_ops.host import HugepagePool, probe

GIB = 1 << 30
MEMINFO = "MemTotal:  16777216 kB\nMemFree: 1024 kB\nMemAvailable: 8388608 kB\nHugePages_Total: 3\n"


def captured(root: Path, files: dict[str, str]) -> Path:
    given = {
        "proc/meminfo": MEMINFO,
        "proc/self/status": "Name: x\nCpus_allowed_list:\t0-2,7\n",
        "proc/self/mountinfo": "1 0 8:0 / / rw - ext4 /dev/sda rw\n",
    }
    for name, text in {**given, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_plain_host(home: Path) -> None:
    pages = "sys/kernel/mm/hugepages/hugepages-2048kB"
    files = {f"{pages}/free_hugepages": "12\n", f"{pages}/nr_hugepages": "20\n"}
    host = probe(captured(home, files))
    assert host.memory_total_bytes == 16 * GIB
    assert host.usable_memory_bytes == 8 * GIB
    assert host.usable_cpus == 4
    assert host.hugepages == {2 << 20: HugepagePool(20, 12)}
    assert host.hugepages_free(2 << 20) == 12
    assert host.cgroup_limit_bytes is None


def test_cgroup_v2_the_tightest_of_nested_groups_counts(home: Path) -> None:
    base = "sys/fs/cgroup"
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        f"{base}/a/b/memory.max": "max\n",
        f"{base}/a/b/cpu.max": "max 100000\n",
        f"{base}/a/memory.max": f"{4 * GIB}\n",
        f"{base}/a/memory.current": f"{3 * GIB}\n",
        f"{base}/a/memory.stat": f"anon 1\ninactive_file {1 * GIB}\n",
        f"{base}/a/cpu.max": "250000 100000\n",
    }
    host = probe(captured(home, files))
    assert host.cgroup_limit_bytes == 4 * GIB
    assert host.usable_memory_bytes == 2 * GIB
    assert host.cpu_quota == 2.5
    assert host.usable_cpus == 2


def test_cgroup_v1_in_a_container_whose_path_is_the_hosts(home: Path) -> None:
    base = "sys/fs/cgroup"
    files = {
        "proc/self/cgroup": "5:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n1:name=systemd:/\n",
        f"{base}/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
        f"{base}/memory/memory.usage_in_bytes": f"{1 * GIB}\n",
        f"{base}/memory/memory.stat": f"total_inactive_file {GIB // 2}\n",
        f"{base}/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
        f"{base}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    host = probe(captured(home, files))
    assert host.usable_memory_bytes == 2 * GIB - GIB // 2
    assert host.usable_cpus == 1


def test_cgroup_v1_without_a_limit(home: Path) -> None:
    files = {
        "proc/self/cgroup": "5:memory:/x\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert probe(captured(home, files)).cgroup_limit_bytes is None


def test_directories(home: Path) -> None:
    there = home / "pages"
    there.mkdir()
    (there / "segment").write_bytes(b"x" * 8192)
    mounts = f"1 0 8:0 / / rw - ext4 /dev/sda rw\n2 1 259:0 / {home} rw - xfs /dev/nvme0 rw\n"
    host = probe(captured(home, {"proc/self/mountinfo": mounts}), [there, home / "a/b"])
    found = host.directories[there]
    assert (found.exists, found.used_bytes) == (True, 8192)
    assert (found.on.kind, found.on.device) == ("xfs", "/dev/nvme0")
    assert host.directories[home / "a/b"].exists is False
    assert host.directories[home / "a/b"].on.free_bytes > 0


def test_not_linux(home: Path) -> None:
    with pytest.raises(HostError, match="cannot read"):
        probe(home)


def test_this_host() -> None:
    host = probe()
    assert 0 < host.usable_memory_bytes <= host.memory_total_bytes
    assert host.usable_cpus >= 1
