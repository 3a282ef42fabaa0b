"""Checks of the limits of processes, and whether what mends them is a command that works."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from ops.builders import GIB
from ops.doctored import all_of, failing, gpu_host, limits, load, look, planned, put

LARGE = "tiers.l2.size=9GiB"


def test_locked_memory(home: Path) -> None:
    context = planned(home, LARGE, host=gpu_host())
    put(home, "proc/self/status", "CapEff:\t0000000000000000\n")
    limits(home, "Max locked memory", "8388608")
    found = look("KVT-D211", context)
    assert not found.ok
    assert found.current == "8.00 MiB (`ulimit -Hl`)"
    assert "LimitMEMLOCK=infinity" in found.fix
    assert "--ulimit" not in found.fix
    put(home, "run/.containerenv", "")
    assert "--ulimit memlock=-1:-1" in look("KVT-D211", context).fix
    put(home, "proc/self/status", "CapEff:\t0000000000004000\n")
    assert "CAP_IPC_LOCK" in look("KVT-D211", context).current
    put(home, "proc/self/status", "CapEff:\t0\n")
    limits(home, "Max locked memory", "unlimited")
    assert look("KVT-D211", context).ok
    assert not all_of("KVT-D211", planned(home, LARGE, memory_available_bytes=16 * GIB))


def test_open_files(home: Path) -> None:
    context = planned(home)
    limits(home, "Max open files", "65536")
    assert look("KVT-D212", context).ok
    limits(home, "Max open files", "256")
    found = look("KVT-D212", context)
    assert not found.ok
    assert "64 running and 256 waiting requests" in found.reason


def test_open_files_of_a_real_process(home: Path) -> None:
    """The limit that a shell sets is the one that is seen."""
    script = (
        "from pathlib import Path\n"
        "from kvtier_ops.doctor.examine import examine\n"
        "from kvtier_ops.doctor.select import select\n"
        "from kvtier_ops.profile.load import load_profile\n"
        f"found = examine(load_profile(Path({str(load(home).path)!r}), []), select(['KVT-D212']))\n"
        "print(found[0].ok, found[0].current)\n"
    )

    def said(hard: int) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-c", script],
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)),
        )
        return done.stdout.strip() or done.stderr

    assert said(300) == "False 300 (`ulimit -Hn`)"
    assert said(4000) == "True 4,000 (`ulimit -Hn`)"


def test_address_space(home: Path) -> None:
    on_cpu, on_gpu = planned(home), planned(home, host=gpu_host())
    limits(home, "Max address space", "unlimited")
    assert look("KVT-D213", on_cpu).ok
    assert look("KVT-D213", on_gpu).ok
    limits(home, "Max address space", str(100 * GIB))
    assert look("KVT-D213", on_cpu).ok
    assert not look("KVT-D213", on_gpu).ok
    limits(home, "Max address space", str(10 * GIB))
    assert "prlimit --pid $$ --as=unlimited" in look("KVT-D213", on_cpu).fix
    put(home, ".dockerenv", "")
    fix = look("KVT-D213", on_cpu).fix
    assert "--ulimit" not in fix, "docker: invalid ulimit type: as"
    assert "LimitAS=infinity` in the systemd unit of the container runtime" in fix


@pytest.mark.parametrize("check", ["KVT-D212", "KVT-D213"])
def test_the_fix_of_a_limit_is_a_command_for_the_hard_one(home: Path, check: str) -> None:
    """Which `ulimit` may not raise, but for root; tried on a limit that is as high already."""
    name, limit = {
        "KVT-D212": ("Max open files", resource.RLIMIT_NOFILE),
        "KVT-D213": ("Max address space", resource.RLIMIT_AS),
    }[check]
    context = planned(home)
    limits(home, name, "200")
    command = failing(check, context).fix.split("`")[1].removeprefix("sudo ")
    hard = resource.getrlimit(limit)[1]
    if limit == resource.RLIMIT_NOFILE and hard < 65536:
        pytest.skip("root may not raise it here")
    low = 1 << 40 if limit == resource.RLIMIT_AS else 256
    done = subprocess.run(
        ["sh", "-c", f"{command}; exec cat /proc/self/limits"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(limit, (low, hard)),
    )
    [line] = [each for each in done.stdout.splitlines() if each.startswith(name)]
    soft, hard_now = line[len(name) :].split()[:2]
    assert (soft, done.stderr) == (hard_now, "")
    assert soft in ("65536", "unlimited")
