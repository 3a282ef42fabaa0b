"""Pages of several MiB through both I/O engines: the same files, the same promises."""

from __future__ import annotations

import errno
import mmap
import os
from ctypes import addressof, c_char
from pathlib import Path

import numpy as np
import pytest
from support.python_process import run_python
from support.store_client import NAMESPACE, ROOT, key, wait_one
from support.store_files import find_slots

from kvtier_store import DirectorySpec, Get, IoEngine, Put, Status, Store, StoreError, StoreOptions

PAGE_BYTES = (3 << 20) + 1000  # several parts, the last block not full
CAPACITY = 64 << 20
# Lengths of pieces: as direct I/O takes them, or not.
CUTS = [[PAGE_BYTES], [1 << 20, 1 << 20, (1 << 20) + 1000], [4096, PAGE_BYTES - 4096], [100, 999]]


def uring_is_allowed() -> bool:
    try:
        StoreOptions(io_engine=IoEngine.IO_URING)
        folder = Path("/proc/self/no-such-directory")
        Store.open(
            [DirectorySpec(str(folder), CAPACITY)],
            page_bytes=1,
            namespace=b"x",
            options=StoreOptions(io_engine=IoEngine.IO_URING),
        )
    except StoreError as error:
        return "forbids" not in str(error)
    return True


ENGINES = [IoEngine.THREADS] + ([IoEngine.IO_URING] if uring_is_allowed() else [])


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def engine(request):
    return request.param


class Memory:
    """A page's memory, on a block, cut into pieces that lie apart."""

    def __init__(self, cut: list[int]) -> None:
        if sum(cut) < PAGE_BYTES:
            cut = [*cut, PAGE_BYTES - sum(cut)]
        self._lengths = cut
        self._map = mmap.mmap(-1, PAGE_BYTES + 8192 * (len(cut) + 1))
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)
        self._base = addressof(c_char.from_buffer(self._map))
        self._offsets = []
        at = 0
        for length in cut:
            self._offsets.append(at)
            at = (at + length + 8191) // 4096 * 4096

    @property
    def pieces(self) -> list[tuple[int, int]]:
        return [(self._base + at, n) for at, n in zip(self._offsets, self._lengths, strict=True)]

    def fill(self, page: np.ndarray) -> None:
        done = 0
        for at, length in zip(self._offsets, self._lengths, strict=True):
            self._bytes[at : at + length] = page[done : done + length]
            done += length

    def read(self) -> np.ndarray:
        spans = zip(self._offsets, self._lengths, strict=True)
        return np.concatenate([self._bytes[at : at + length] for at, length in spans])


def page(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, PAGE_BYTES, dtype=np.uint8)


def open_store(folder: Path, engine: IoEngine) -> Store:
    options = StoreOptions(io_engine=engine, reserve_bytes=0)
    specs = [DirectorySpec(str(folder), CAPACITY)]
    return Store.open(specs, page_bytes=PAGE_BYTES, namespace=NAMESPACE, options=options)


def put(store: Store, i: int, cut: list[int]) -> None:
    memory = Memory(cut)
    memory.fill(page(i))
    store.submit_put([Put(i, key(i), ROOT, memory.pieces)])
    assert wait_one(store) is Status.OK


def get(store: Store, i: int, cut: list[int]) -> Status:
    memory = Memory(cut)
    store.submit_get([Get(i, key(i), memory.pieces)])
    status = wait_one(store)
    assert status is not Status.OK or np.array_equal(memory.read(), page(i))
    return status


def rings() -> int:
    links = [
        os.readlink(link.path)
        for link in os.scandir("/proc/self/fd")
        if link.is_symlink() and os.path.lexists(link.path)
    ]
    return links.count("anon_inode:[io_uring]")


def test_pages_cross_from_engine_to_engine(tmp_path, engine):
    store = open_store(tmp_path / "l3", engine)
    before = rings()
    for i, cut in enumerate(CUTS):
        put(store, i, cut)
    assert (rings() > before) is (engine is IoEngine.IO_URING)
    assert store.stats().io_engine is engine
    store.close()
    for other in ENGINES:
        store = open_store(tmp_path / "l3", other)
        for i in range(len(CUTS)):
            for cut in CUTS:
                assert get(store, i, cut) is Status.OK
        store.close()


@pytest.mark.parametrize("at", [4096, 4096 + (1 << 20), 4096 + PAGE_BYTES - 1])
def test_one_bit_flipped_in_any_part(tmp_path, engine, at):
    store = open_store(tmp_path / "l3", engine)
    put(store, 1, CUTS[0])
    store.close()
    slot = find_slots(tmp_path / "l3", PAGE_BYTES)[key(1)]
    slot.write(bytes([slot.read()[at] ^ 1]), at)
    store = open_store(tmp_path / "l3", engine)
    assert get(store, 1, CUTS[0]) is Status.CORRUPT
    assert store.stats().corrupt == {"checksum": 1}
    store.close()


def test_truncated_while_open(tmp_path, engine):
    store = open_store(tmp_path / "l3", engine)
    put(store, 1, CUTS[0])
    (segment,) = (tmp_path / "l3").glob("segment-*")
    os.truncate(segment, 2 << 20)
    assert get(store, 1, CUTS[0]) is Status.CORRUPT
    assert store.stats().corrupt == {"short": 1}
    store.close()


def test_memory_that_is_not_there(tmp_path, engine):
    """The kernel refuses it, which says nothing about the disk: no breaker, the page stays."""
    store = open_store(tmp_path / "l3", engine)
    put(store, 1, CUTS[0])
    for _ in range(10):
        store.submit_get([Get(1, key(1), [(4096, PAGE_BYTES)])])
        assert wait_one(store) is Status.IO_ERROR
    assert not store.stats().degraded
    assert get(store, 1, CUTS[0]) is Status.OK
    store.close()


# A container's default profile says no like this.
FORBIDDEN = """
import errno
from pathlib import Path
from support.forbidding import IO_URING_SETUP, forbid
from support.store_client import get, open_store, put
from kvtier_store import IoEngine, StoreError
forbid(IO_URING_SETUP, int(sys.argv[2]))
folder = Path(sys.argv[1])
try:
    open_store(folder, io_engine=IoEngine.IO_URING)
except StoreError as error:
    print(error)
store = open_store(folder, io_engine=IoEngine.AUTO)
print(store.stats().io_engine.name, put(store, 1).name, get(store, 1).name)
store.close()
"""


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
def test_where_io_uring_is_forbidden_threads_do(tmp_path, error):
    done = run_python(FORBIDDEN, tmp_path / "l3", str(error))
    assert done.returncode == 0, done.stderr
    refusal, used = done.stdout.splitlines()
    assert "io_engine is io_uring, which this kernel or a sandbox" in refusal
    assert used == "THREADS OK OK"
