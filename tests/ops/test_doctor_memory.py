"""Checks of memory, hugepages, limits, leftovers and NUMA: once passing, once failing."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ops.builders import GIB
from ops.doctored import (
    all_of,
    context_of,
    failing,
    gpu_host,
    limits,
    load,
    look,
    on_host,
    planned,
    put,
)
from support.memory_group import memory_group

from kvtier_ops.doctor import Context
from kvtier_ops.doctor.examine import examine, find
from kvtier_ops.host import HugepagePool, NumaNode, probe

pytestmark = pytest.mark.host  # hugepages, /dev/shm: one at a time
MIB = 1 << 20
LARGE = "tiers.l2.size=9GiB"


@pytest.mark.parametrize(("limit", "ok"), [(8 * GIB, True), (GIB // 2, False)])
def test_cgroup(home: Path, limit: int, ok: bool) -> None:
    context = planned(home, cgroup_limit_bytes=8 * GIB)
    found = look("KVT-D202", on_host(context, cgroup_limit_bytes=limit))
    assert found.ok is ok
    assert "work" in found.reason or "L2" in found.reason
    if not ok:
        assert "MemoryMax=" in found.fix
        put(home, "run/.containerenv", "")
        assert "--memory " in look("KVT-D202", on_host(context, cgroup_limit_bytes=limit)).fix


@pytest.mark.parametrize(("word", "ok"), [("advise", True), ("never", False)])
def test_transparent_hugepages(home: Path, word: str, ok: bool) -> None:
    context = planned(home, LARGE, memory_available_bytes=16 * GIB)
    put(home, "sys/kernel/mm/transparent_hugepage/shmem_enabled", f"always [{word}] deny\n")
    found = look("KVT-D203", context)
    assert found.ok is ok
    assert "L2 of 9.00 GiB are 2,359,296 pages" in found.reason
    if not ok:
        assert found.fix == (
            f"`sudo kvtier tune {home}/small.yaml`, or `echo advise | sudo tee "
            "/sys/kernel/mm/transparent_hugepage/shmem_enabled`"
        )


@pytest.mark.parametrize(("unit", "word"), [("", "container"), ("0123", "unit")])
def test_where_sys_is_read_only_the_fix_is_outside(
    home: Path, monkeypatch: pytest.MonkeyPatch, unit: str, word: str
) -> None:
    """ProtectKernelTunables makes it so in the unit that `kvtier render systemd` writes."""
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    if unit:
        monkeypatch.setenv("INVOCATION_ID", unit)
    context = planned(home, LARGE, memory_available_bytes=16 * GIB)
    put(home, "sys/kernel/mm/transparent_hugepage/shmem_enabled", "always [never]\n")
    put(home, "proc/self/mountinfo", "22 1 0:21 / /sys ro,nosuid - sysfs sysfs ro\n")
    assert look("KVT-D203", context).fix.startswith(f"outside the {word}, on the host: `echo")
    limits(home, "Max open files", "200")
    assert ("--ulimit" in look("KVT-D212", context).fix) is (word == "container")


def meminfo(home: Path, **values: int) -> None:
    put(home, "proc/meminfo", "".join(f"{name}: {n // 1024} kB\n" for name, n in values.items()))


def test_swap(home: Path) -> None:
    context = planned(home, LARGE, memory_available_bytes=16 * GIB)
    put(home, "proc/sys/vm/swappiness", "60\n")
    meminfo(home, SwapTotal=0, SwapFree=0)
    without = look("KVT-D206", context)
    assert (without.ok, without.current) == (True, "there is no swap")
    meminfo(home, SwapTotal=8 * GIB, SwapFree=8 * GIB)
    found = look("KVT-D206", context)
    assert not found.ok
    assert "echo 1 | sudo tee /proc/sys/vm/swappiness" in found.fix
    assert "swapoff" not in found.fix
    put(home, "proc/sys/vm/swappiness", "10\n")
    assert look("KVT-D206", context).ok
    meminfo(home, SwapTotal=8 * GIB, SwapFree=6 * GIB)
    found = look("KVT-D206", context)
    assert "2.00 GiB of 8.00 GiB of swap" in found.current
    assert "swapoff" in found.fix


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("0::/box", {"box/memory.swap.max": "0"}),
        (
            "4:memory:/box",
            {
                "memory/box/memory.limit_in_bytes": str(GIB),
                "memory/box/memory.memsw.limit_in_bytes": str(GIB),
            },
        ),
    ],
)
def test_a_control_group_without_swap(home: Path, line: str, files: dict[str, str]) -> None:
    """As Kubernetes has it: the host's swap is nothing to what runs in the pod."""
    context = planned(home, LARGE, memory_available_bytes=16 * GIB)
    put(home, "proc/sys/vm/swappiness", "60\n")
    meminfo(home, SwapTotal=8 * GIB, SwapFree=4 * GIB)
    put(home, "proc/self/cgroup", f"{line}\n")
    for name, text in files.items():
        put(home, f"sys/fs/cgroup/{name}", f"{text}\n")
    found = look("KVT-D206", context)
    assert (found.ok, found.current) == (True, "the control group grants none")
    put(home, f"sys/fs/cgroup/{name}", f"{2 * GIB}\n")
    assert not look("KVT-D206", context).ok


def test_swap_does_not_matter_to_what_cannot_be_swapped(home: Path) -> None:
    put(home, "proc/sys/vm/swappiness", "60\n")
    meminfo(home, SwapTotal=8 * GIB, SwapFree=8 * GIB)
    assert not all_of("KVT-D206", planned(home))  # a small L2
    assert not all_of("KVT-D206", planned(home, LARGE, host=gpu_host()))  # page-locked
    pools = {2 * MIB: HugepagePool(8192, 8192)}
    held = planned(home, LARGE, "tiers.l2.hugepages=2MiB", hugepages=pools)
    assert not all_of("KVT-D206", held)


def test_overcommit(home: Path) -> None:
    context = planned(home)
    put(home, "proc/sys/vm/overcommit_memory", "0\n")
    assert look("KVT-D207", context).ok
    put(home, "proc/sys/vm/overcommit_memory", "2\n")
    meminfo(home, CommitLimit=20 * GIB, Committed_AS=GIB)
    assert look("KVT-D207", context).ok
    meminfo(home, CommitLimit=2 * GIB, Committed_AS=2 * GIB)
    found = look("KVT-D207", context)
    assert not found.ok
    assert "overcommit_memory is 2, and 0 B may" in found.current


def huge(home: Path, total: int, free: int, hugepages: str = "2MiB") -> Context:
    pools = {2 * MIB: HugepagePool(total, free)}
    nodes = (NumaNode(0, 16 * GIB, hugepages=pools),)
    return planned(
        home,
        "tiers.l2.size=64MiB",
        f"tiers.l2.hugepages={hugepages}",
        hugepages=pools,
        numa_nodes=nodes,
    )


def test_hugepages_reserved_are_one_finding(home: Path) -> None:
    put(home, "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "64\n")
    put(home, "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "64\n")
    enough = huge(home, 64, 64)
    found = look("KVT-D205", enough)
    assert found.ok
    assert found.current == "64 are reserved, 64 of them can be had"
    assert "takes 32 pages of 2.00 MiB" in found.reason
    assert "KVT-P011" not in {each.id for each in find(enough)}
    short = find(huge(home, 10, 8))
    assert "KVT-D205" not in {each.id for each in short}
    told = next(each for each in short if each.id == "KVT-P011")
    assert "takes 32 hugepages of 2MiB" in told.current
    assert told.fix.startswith(f"`sudo kvtier tune {home}/small.yaml` or `echo 34 | sudo tee ")


def test_hugepages_that_this_cpu_does_not_have(home: Path) -> None:
    put(home, "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n")
    put(home, "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n")
    context = planned(home, "tiers.l2.size=2GiB", "tiers.l2.hugepages=1GiB")
    findings = find(context)
    told = [each for each in findings if each.id in ("KVT-D205", "KVT-P011")]
    assert [each.id for each in told] == ["KVT-D205"]
    assert told[0].current == "this kernel, or this CPU, has none of 1.00 GiB; it has 2.00 MiB"


def test_hugepages_that_the_cgroup_does_not_grant(home: Path) -> None:
    put(home, "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "64\n")
    put(home, "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "64\n")
    put(home, "proc/self/cgroup", "0::/\n")
    put(home, "sys/fs/cgroup/hugetlb.2MB.max", "0\n")
    context = huge(home, 64, 0)  # as the probe counts what the group grants
    told = [each for each in find(context) if each.id in ("KVT-D205", "KVT-P011")]
    assert [each.id for each in told] == ["KVT-D205"]
    assert "the control group grants 0 B more" in told[0].current
    assert "hugetlb.2MB.max" in told[0].fix
    put(home, ".dockerenv", "")
    assert "hugepages-2Mi: 64Mi" in look("KVT-D205", context).fix


def test_shm_size(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = planned(home, "engine.tensor_parallel=2", host=gpu_host(2))
    missing = look("KVT-D214", context)
    assert "cannot be looked at" in missing.current
    (home / "root/dev/shm").mkdir(parents=True)
    real = os.statvfs(home)
    size = {"f_bavail": 0}

    def statvfs(path: Path) -> os.statvfs_result:
        return os.statvfs_result([4096, 4096, *real[2:4], size["f_bavail"], *real[5:]])

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert not look("KVT-D214", context).ok
    size["f_bavail"] = 2 * GIB // 4096
    assert look("KVT-D214", context).ok
    assert not all_of("KVT-D214", planned(home, host=gpu_host()))  # one rank


def test_leftovers_in_shm_of_this_host() -> None:
    """Real files in /dev/shm: one that is mapped, one open, one left behind."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        pytest.skip("no /dev/shm to write to")
    names = [shm / f"torch_{os.getpid()}_kvtier_test_{part}" for part in ("map", "open", "left")]
    other = shm / f"somebodys_{os.getpid()}"
    context = Context()

    def seen() -> str:
        return look("KVT-D215", context).current + look("KVT-D215", context).fix

    try:
        for path in (*names, other):
            path.write_bytes(bytes(2 * MIB))
            os.utime(path, (1, 1))
        with names[0].open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
        with mapped, names[1].open("rb"):
            assert names[2].name not in seen(), "it was made just now"
            monkey = pytest.MonkeyPatch()
            with monkey.context() as patch:
                patch.setattr("kvtier_ops.doctor.checks.leftovers._YOUNG_S", -5)
                found = seen()
        assert names[2].name in found
        assert names[0].name not in found
        assert names[1].name not in found
        assert other.name not in found
    finally:
        for path in (*names, other):
            path.unlink(missing_ok=True)


def test_no_leftovers_in_shm(home: Path) -> None:
    put(home, "dev/shm/psm_1", "few bytes")
    assert look("KVT-D215", Context(root=home / "root")).ok


def test_leftovers_of_system_v(home: Path) -> None:
    context = Context(root=home / "root")
    assert not all_of("KVT-D216", context)
    head = "       key      shmid perms       size  cpid  lpid nattch   uid\n"
    put(home, "proc/sysvipc/shm", head)
    assert look("KVT-D216", context).ok
    row = "         0 {id} 600 {size} {pid} 0 {attached} 0\n"
    kept = row.format(id=1, size=GIB, pid=7, attached=0) + row.format(
        id=2, size=GIB, pid=8, attached=1
    )
    (home / "root/proc/7").mkdir()
    put(home, "proc/sysvipc/shm", head + kept)
    assert look("KVT-D216", context).ok, "its maker lives, or somebody is attached"
    put(home, "proc/sysvipc/shm", head + kept + row.format(id=33, size=GIB, pid=9, attached=0))
    found = failing("KVT-D216", context)
    assert found.current == "1 segments of processes that are gone take 1.00 GiB"
    assert found.fix == "`ipcrm -m 33`"


def test_a_real_segment_that_was_left(home: Path) -> None:
    made = subprocess.run(["ipcmk", "-M", str(2 * MIB)], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no System V memory here: {made.stderr}")
    number = made.stdout.split()[-1]
    try:
        found = look("KVT-D216", Context())
        assert not found.ok
        assert f"-m {number}" in found.fix
    finally:
        subprocess.run(["ipcrm", "-m", number], check=True)


def test_l2_beside_gpus(home: Path) -> None:
    near = planned(home, "engine.tensor_parallel=2", host=gpu_host(2, 2))
    assert look("KVT-D221", near).ok
    far = planned(home, "engine.tensor_parallel=2", "tiers.l2.numa=[0, 0]", host=gpu_host(2, 2))
    found = failing("KVT-D221", far)
    assert found.current == "GPU 1 is on node 1, its part of L2 on node 0"
    assert "`tiers.l2.numa: auto`" in found.fix
    anywhere = planned(home, "engine.tensor_parallel=2", "tiers.l2.numa=none", host=gpu_host(2, 2))
    assert "its part of L2 on any" in look("KVT-D221", anywhere).current
    assert not all_of("KVT-D221", planned(home, host=gpu_host()))  # one node


def test_nodes_allowed(home: Path) -> None:
    context = planned(home, "engine.tensor_parallel=2", host=gpu_host(2, 2))
    put(home, "proc/self/status", "Mems_allowed_list:\t0-1\n")
    assert look("KVT-D222", context).ok
    put(home, "proc/self/status", "Mems_allowed_list:\t0\n")
    found = failing("KVT-D222", context)
    assert found.current == "nodes 0; not 1"
    assert "AllowedMemoryNodes=0,1" in found.fix
    large = planned(home, "tiers.l2.size=80GiB", "tiers.l2.numa=none", host=gpu_host(1, 2))
    assert "which have 64.0 GiB together" in failing("KVT-D222", large).current


def test_policy_of_numactl(home: Path) -> None:
    large = planned(home, "tiers.l2.size=80GiB", "tiers.l2.numa=none", host=gpu_host(1, 2))
    for policy in ("default", "interleave:0-1", "bind:0-1", "prefer:0", "bind=static:0-1"):
        put(home, "proc/self/numa_maps", f"55c6214a5000 {policy} file=/bin/x mapped=2 N0=2\n")
        assert look("KVT-D223", large).ok, policy
    put(home, "proc/self/numa_maps", "55c6214a5000 bind:0 file=/bin/x mapped=2 N0=2\n")
    found = failing("KVT-D223", large)
    assert found.current == "`bind:0`, of nodes with 64.0 GiB"
    assert "L2 79.9" in found.reason or "L2 80" in found.reason
    small = planned(home, host=gpu_host(1, 2))
    assert look("KVT-D223", small).ok


def test_numa_of_this_process(home: Path) -> None:
    """What this kernel writes can be read."""
    if not Path("/proc/self/numa_maps").exists():
        pytest.skip("this kernel has no NUMA")
    context = context_of(load(home), probe(), Path("/"))
    assert look("KVT-D223", context).current == "`default`"
    assert look("KVT-D222", context).ok


def test_all_of_it_passes_or_fails_on_this_host(home: Path) -> None:
    """No check of memory breaks on a real host."""
    findings = examine(load(home))
    assert not [each for each in findings if each.broke]
    assert {"KVT-D207", "KVT-D212", "KVT-D213"} <= {each.id for each in findings}


def test_a_real_control_group(home: Path) -> None:
    """With a limit below what the plan needs, the doctor says so; without, it does not."""
    file = load(home)
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from kvtier_ops import cli\n"
        "Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()))\n"
        "sys.exit(cli.run(['doctor', sys.argv[2], '--only', 'D201', '--only', 'D202']))\n"
    )

    def doctor(limit_bytes: int) -> subprocess.CompletedProcess[str]:
        with memory_group(limit_bytes) as group:
            words = [sys.executable, "-P", "-c", script, str(group), str(file.path)]
            return subprocess.run(words, capture_output=True, text=True, check=False)

    small = doctor(200 << 20)
    assert small.returncode == 3, small.stdout + small.stderr
    assert "the cgroup's limit" in " ".join(small.stdout.split())
    large = doctor(4 << 30)
    assert large.returncode == 0, large.stdout + large.stderr
    assert "KVT-D202" in large.stdout
