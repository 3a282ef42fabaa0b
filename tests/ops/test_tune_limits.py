"""Limits of the engine's processes, as the kernel keeps them."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import ctypes, mmap, resource, sys
from kvtier_ops.tune.limits import raise_limits

soft, hard, dry = (int(word) for word in sys.argv[1:4])
resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))
memory = mmap.mmap(-1, 1 << 20)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
libc = ctypes.CDLL(None, use_errno=True)
print("before", libc.mlock(ctypes.c_void_p(address), 1 << 20))
for each in raise_limits(locks_memory=True, dry_run=bool(dry)):
    print(each.describe())
print("after", libc.mlock(ctypes.c_void_p(address), 1 << 20))
"""
KIB, MIB = 1 << 10, 1 << 20


def limited(soft: int, hard: int, dry: bool = False) -> list[str]:
    """By a user who has no capabilities but to read, since Python may lie in root's home."""
    reads = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reads]
    words += [sys.executable, "-P", "-c", CODE, str(soft), str(hard), str(int(dry))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith("nofile")]


def test_memlock_goes_to_the_hard_limit_and_memory_can_be_locked() -> None:
    """1 MiB does not go below a limit of 64 KiB, and goes below one of 8 MiB."""
    assert limited(64 * KIB, 8 * MIB) == ["before -1", "memlock: 64.0 KiB -> 8.00 MiB", "after 0"]


def test_what_the_hard_limit_forbids_stays() -> None:
    assert limited(64 * KIB, 64 * KIB) == ["before -1", "after -1"]


def test_dry_run_only_says_it() -> None:
    said = limited(64 * KIB, 8 * MIB, dry=True)
    assert said == ["before -1", "memlock: 64.0 KiB -> 8.00 MiB", "after -1"]


def test_transparent_hugepages_that_the_parent_forbade() -> None:
    code = (
        "import ctypes\n"
        "from kvtier_ops.tune.limits import raise_limits\n"
        "libc = ctypes.CDLL(None)\n"
        "assert libc.prctl(41, 1, 0, 0, 0) == 0\n"
        "print([each.name for each in raise_limits(locks_memory=False)])\n"
        "print(libc.prctl(42, 0, 0, 0, 0))\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert "transparent hugepages" in done.stdout
    assert done.stdout.splitlines()[-1] == "0"
