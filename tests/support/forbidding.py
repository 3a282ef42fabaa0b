"""System calls that this process may not make any more, as a sandbox has it."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

# By <asm/unistd.h>; the same on x86-64 and arm64.
IO_URING_SETUP = 425

_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # of classic BPF
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2


def forbid(number: int, error: int = errno.EPERM) -> None:
    """For all threads to come and this one, for ever."""
    assert platform.machine() in ("x86_64", "aarch64"), "numbers of system calls differ"
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (_LOAD, 0, 0, 0),  # the call's number
            (_JUMP_IF_EQUAL, 0, 1, number),
            (_RETURN, 0, 0, _ERRNO | error),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    memory = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    calls = ((_PR_SET_NO_NEW_PRIVS, 1, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described))
    for option, value, more in calls:
        if libc.prctl(option, ctypes.c_ulong(value), more, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
