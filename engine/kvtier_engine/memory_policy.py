"""NUMA memory policy: which nodes memory may come from (Linux, set_mempolicy(2) and mbind(2)).

libc has no wrappers for them.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Sequence
from enum import IntEnum

# Numbers of the system calls, from <asm/unistd.h>.
_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
_MBIND = {"x86_64": 237, "aarch64": 235}
_WORD_BITS = 64


class Policy(IntEnum):
    """As <linux/mempolicy.h> numbers them."""

    PREFERRED = 1
    BIND = 2
    INTERLEAVE = 3


def set_memory_policy(policy: Policy, nodes: Sequence[int]) -> None:
    """For this thread, and every thread and process that it starts. Raises OSError."""
    number = _number(_SET_MEMPOLICY)
    _check(_libc().syscall(number, int(policy), *_mask(nodes)))


def bind_range(address: int, size: int, node: int) -> None:
    """Memory that is put behind these addresses from now on comes from the node alone; `address` is
    that of a page. Raises OSError."""
    number = _number(_MBIND)
    mask, bits = _mask([node])
    begin, length = ctypes.c_void_p(address), ctypes.c_ulong(size)
    _check(_libc().syscall(number, begin, length, int(Policy.BIND), mask, bits, 0))


def _number(of_machine: dict[str, int]) -> int:
    number = of_machine.get(platform.machine())
    if number is None:
        raise OSError(0, f"kvtier does not know this system call on {platform.machine()}")
    return number


def _mask(nodes: Sequence[int]) -> tuple[ctypes.Array[ctypes.c_uint64], ctypes.c_ulong]:
    """The set of nodes, and how many bits of it count; the kernel takes one less than it hears."""
    words = max(nodes) // _WORD_BITS + 1
    mask = (ctypes.c_uint64 * words)()
    for node in nodes:
        mask[node // _WORD_BITS] |= 1 << node % _WORD_BITS
    return mask, ctypes.c_ulong(words * _WORD_BITS + 1)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
