"""A file that is a disk: it fails or stands still when told to. FUSE as of 7.31, no library.

`python fuse_disk.py IMAGE MOUNTPOINT` mounts a file system with one file, `disk`, whose bytes are
IMAGE's. Says `ready`, then obeys lines of its input and repeats each when it holds: `work`, `fail`
(reads, writes and syncs end with EIO), `stall` (they do not end). Ends with its input. disks.py is
the other side.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
import sys
from enum import IntEnum


class Op(IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    RELEASEDIR = 29
    ACCESS = 34
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


WITHOUT_ANSWER = (Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT)
TRANSFERS = (Op.READ, Op.WRITE, Op.FSYNC)
DISK = 2  # its node; 1 is the root's
IN_HEADER, OUT_HEADER, TRANSFER = (
    struct.Struct("<IIQQIIII"),
    struct.Struct("<IiQ"),
    struct.Struct("<QQI20x"),
)
BYTES_MAX = 128 << 10  # of a transfer
ASYNC_READ, BIG_WRITES, ASYNC_DIRECT, MAX_PAGES = 1, 1 << 5, 1 << 15, 1 << 22
OPEN_DIRECT = 1  # nothing of it stays in the page cache


class FuseDisk:
    def __init__(self, image: str, mountpoint: str) -> None:
        self._image = os.open(image, os.O_RDWR)
        self._fuse = os.open("/dev/fuse", os.O_RDWR)
        self._order = "work"
        self._stalled: list[bytes] = []
        options = f"fd={self._fuse},rootmode=40000,user_id=0,group_id=0".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"kvtier-test", mountpoint.encode(), b"fuse", 0, options) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), mountpoint)

    def serve(self) -> None:
        self._say("ready")
        while True:
            ready, _, _ = select.select([self._fuse, 0], [], [])
            if 0 in ready:
                order = os.read(0, 100).decode().strip()
                if not order:
                    return
                self._obey(order)
            elif not self._answer_next():
                return

    def _say(self, line: str) -> None:
        os.write(1, line.encode() + b"\n")

    def _obey(self, order: str) -> None:
        self._order = order
        stalled, self._stalled = self._stalled, []
        for request in stalled:
            self._answer(request)
        self._say(order)

    def _answer_next(self) -> bool:
        try:
            self._answer(os.read(self._fuse, BYTES_MAX + (1 << 16)))
        except OSError as error:
            return error.errno not in (errno.ENODEV, errno.ENOTCONN)  # unmounted
        return True

    def _answer(self, request: bytes) -> None:
        _, opcode, unique, node, *_ = IN_HEADER.unpack_from(request)
        if opcode in WITHOUT_ANSWER:
            return
        if opcode in TRANSFERS and self._order == "stall":
            self._stalled.append(request)
            return
        error, content = 0, b""
        if opcode in TRANSFERS and self._order == "fail":
            error = errno.EIO
        else:
            try:
                content = self._do(opcode, node, request[IN_HEADER.size :])
            except OSError as failure:
                error = failure.errno or errno.EIO
        header = OUT_HEADER.pack(OUT_HEADER.size + len(content), -error, unique)
        os.write(self._fuse, header + content)

    def _do(self, opcode: int, node: int, body: bytes) -> bytes:
        match opcode:
            case Op.INIT:
                return self._init(body)
            case Op.LOOKUP:
                if body.rstrip(b"\0") != b"disk":
                    raise OSError(errno.ENOENT, "no such file")
                return struct.pack("<QQQQII", DISK, 0, 3600, 3600, 0, 0) + self._attributes(DISK)
            case Op.GETATTR | Op.SETATTR:
                return struct.pack("<QII", 3600, 0, 0) + self._attributes(node)
            case Op.OPEN | Op.OPENDIR:
                return struct.pack("<QII", 0, OPEN_DIRECT if opcode == Op.OPEN else 0, 0)
            case Op.READ:
                _, at, size = TRANSFER.unpack_from(body)
                return os.pread(self._image, size, at)
            case Op.WRITE:
                _, at, size = TRANSFER.unpack_from(body)
                return struct.pack(
                    "<II", os.pwrite(self._image, body[TRANSFER.size :][:size], at), 0
                )
            case Op.STATFS:
                return struct.pack("<QQQQQIIII24x", 0, 0, 0, 2, 0, 4096, 255, 4096, 0)
            case Op.FSYNC | Op.FLUSH | Op.RELEASE | Op.RELEASEDIR | Op.ACCESS | Op.DESTROY:
                return b""
        raise OSError(errno.ENOSYS, "not there")

    def _init(self, body: bytes) -> bytes:
        _, _, read_ahead, _ = struct.unpack_from("<IIII", body)
        flags = ASYNC_READ | BIG_WRITES | ASYNC_DIRECT | MAX_PAGES
        pages = BYTES_MAX >> 12
        return struct.pack(
            "<IIIIHHIIHHII24x", 7, 31, read_ahead, flags, 64, 64, BYTES_MAX, 1, pages, 0, 0, 0
        )

    def _attributes(self, node: int) -> bytes:
        size = os.fstat(self._image).st_size if node == DISK else 0
        mode = stat.S_IFREG | 0o600 if node == DISK else stat.S_IFDIR | 0o700
        return struct.pack(
            "<QQQQQQIIIIIIIIII",
            node,
            size,
            size // 512,
            0,
            0,
            0,
            0,
            0,
            0,
            mode,
            1,
            0,
            0,
            0,
            4096,
            0,
        )


if __name__ == "__main__":
    FuseDisk(sys.argv[1], sys.argv[2]).serve()
