"""What the host grants, from captured /proc and /sys."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.captured_host import captured

from kvtier_engine.core.memory_room import (
    hugepage_room,
    memlock_room,
    memory_rooms,
    node_hugepage_room,
    node_room,
)

MIB = 1 << 20
GROUPS = "sys/fs/cgroup"
HUGE = "hugepages/hugepages-2048kB"
UNLIMITED = 9223372036854771712


def rooms(root: Path) -> dict[str, int]:
    return {room.source: room.bytes // MIB for room in memory_rooms(root)}


def test_a_host_without_groups_has_what_is_available(tmp_path):
    files = {"proc/meminfo": "MemTotal: 9999999 kB\nMemAvailable:  2097152 kB\n"}
    assert rooms(captured(tmp_path, files)) == {"MemAvailable of /proc/meminfo": 2048}
    assert rooms(tmp_path / "nothing") == {}


def test_every_group_above_counts_and_page_cache_is_room(tmp_path):
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        f"{GROUPS}/a/b/memory.max": "max\n",
        f"{GROUPS}/a/b/memory.high": f"{100 * MIB}\n",
        f"{GROUPS}/a/b/memory.current": f"{30 * MIB}\n",
        f"{GROUPS}/a/memory.max": f"{200 * MIB}\n",
        f"{GROUPS}/a/memory.current": f"{190 * MIB}\n",
        f"{GROUPS}/a/memory.stat": (
            f"anon 5\ninactive_file {40 * MIB}\nactive_file {20 * MIB}\n"
            f"slab_reclaimable {2 * MIB}\nshmem {60 * MIB}\n"
        ),
    }
    assert rooms(captured(tmp_path, files)) == {
        f"/{GROUPS}/a/b/memory.high": 70,
        f"/{GROUPS}/a/memory.max": 72,
    }


def test_groups_of_version_1_beside_the_unified_hierarchy(tmp_path):
    base = f"{GROUPS}/memory"
    files = {
        "proc/self/cgroup": "9:name=systemd:/\n5:cpu:/x\n4:memory:/docker/1f\n0::/\n",
        f"{GROUPS}/unified/memory.max": "max\n",
        f"{GROUPS}/cpu/x/memory.limit_in_bytes": "1\n",
        f"{base}/docker/1f/memory.limit_in_bytes": f"{UNLIMITED}\n",
        f"{base}/docker/memory.limit_in_bytes": f"{100 * MIB}\n",
        f"{base}/docker/memory.usage_in_bytes": f"{150 * MIB}\n",
        f"{base}/memory.limit_in_bytes": f"{300 * MIB}\n",
        f"{base}/memory.usage_in_bytes": f"{100 * MIB}\n",
        f"{base}/memory.stat": f"inactive_file 1\ntotal_inactive_file {10 * MIB}\n"
        f"total_active_file {5 * MIB}\n",
    }
    assert rooms(captured(tmp_path, files)) == {
        f"/{base}/docker/memory.limit_in_bytes": 0,
        f"/{base}/memory.limit_in_bytes": 215,
    }


def test_a_containers_own_group_is_the_root_of_the_mount(tmp_path):
    files = {
        "proc/self/cgroup": "0::/../../other\n",
        f"{GROUPS}/memory.max": f"{64 * MIB}\n",
        f"{GROUPS}/memory.current": "nonsense\n",
    }
    assert rooms(captured(tmp_path, files)) == {f"/{GROUPS}/memory.max": 64}


def test_nodes_have_rooms_of_their_own(tmp_path):
    folder = "sys/devices/system/node/node1"
    files = {
        f"{folder}/meminfo": (
            "Node 1 MemTotal: 999999 kB\nNode 1 MemFree:  102400 kB\n"
            "Node 1 Active(file): 10240 kB\nNode 1 Inactive(file): 20480 kB\n"
            "Node 1 HugePages_Free: 7\n"
        ),
        f"{folder}/{HUGE}/free_hugepages": "5\n",
    }
    root = captured(tmp_path, files)
    room, huge = node_room(root, 1), node_hugepage_room(root, 1, 2 * MIB)
    assert room is not None
    assert room.bytes == 130 * MIB
    assert huge is not None
    assert huge.bytes == 10 * MIB
    assert node_room(root, 0) is None
    assert node_hugepage_room(root, 0, 2 * MIB) is None


def test_huge_pages_that_others_have_reserved_are_no_room(tmp_path):
    names = ("free_hugepages", "resv_hugepages", "nr_overcommit_hugepages", "surplus_hugepages")
    files = {
        f"sys/kernel/mm/{HUGE}/{name}": f"{count}\n"
        for name, count in zip(names, (10, 4, 3, 1), strict=True)
    }
    assert hugepage_room(captured(tmp_path, files), 2 * MIB).bytes == (6 + 2) * 2 * MIB
    assert hugepage_room(tmp_path, 1 << 30).bytes == 0


@pytest.mark.parametrize(
    ("capabilities", "limit", "expected"),
    [
        ("0000000000000000", "8388608", 8 * MIB),
        ("0000000000000000", "unlimited", None),
        ("0000000000004000", "8388608", None),  # CAP_IPC_LOCK
    ],
)
def test_what_may_be_locked(tmp_path, capabilities, limit, expected):
    files = {
        "proc/self/status": f"Name: x\nCapEff:\t{capabilities}\n",
        "proc/self/limits": f"Max locked memory         {limit}      unlimited      bytes\n",
    }
    room = memlock_room(captured(tmp_path, files))
    assert (room.bytes if room else None) == expected
