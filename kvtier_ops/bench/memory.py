"""How fast memory is copied, by the node of the CPUs and the node of the memory, and how fast fresh
memory comes.

Copies go from memory as L1's on a CPU to memory as L2's, piece by piece over buffers that no cache
holds, by one thread and by all threads of a node, each on a CPU of its own. memcpy is called
through ctypes, which lets other threads run meanwhile. Rates count the bytes copied: each is read
once and written once, so that STREAM's figure for the same is twice as large.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvtier_engine.memory_policy import bind_range
from kvtier_ops.bench.slices import SLICES, deviation
from kvtier_ops.errors import HostError, Refused
from kvtier_ops.host import Host, NumaNode
from kvtier_ops.host.numa import caches_bytes, room_on
from kvtier_ops.units import UNITS, format_bytes

Progress = Callable[[str, int, int], None]

PIECE_BYTES = 4 * UNITS["MiB"]  # of one call: so large that Python does not count
BUFFER_BYTES_MIN = 128 * UNITS["MiB"]
CACHES = 2  # a buffer is so many times as large as the node's last-level caches
TOUCH_BYTES = 64 * UNITS["MiB"]  # a thread, at most a buffer in all
TOUCHES = 3
SPARE_BYTES = 512 * UNITS["MiB"]  # that others keep
HUGEPAGES = ("transparent", "none")
_NO_HUGEPAGES, _POPULATE_WRITE = 15, 23  # <linux/mman.h>: MADV_NOHUGEPAGE, MADV_POPULATE_WRITE


@dataclass(frozen=True)
class CopyRate:
    """`deviation`: half the range of the slices, over their median."""

    cpu_node: int
    memory_node: int
    threads: int
    bytes_per_s: float
    deviation: float


@dataclass(frozen=True)
class TouchRate:
    """The first touch of shared memory, near to the CPUs of one node."""

    hugepages: str  # as in the profile's `tiers.l2.hugepages`
    threads: int
    bytes_per_s: float
    deviation: float


@dataclass(frozen=True)
class MemoryResult:
    buffer_bytes: int
    copies: tuple[CopyRate, ...]
    touches: tuple[TouchRate, ...]


@dataclass(frozen=True)
class _Node:
    """`cpus`: those that threads of ours may run on."""

    id: int
    cpus: tuple[int, ...]


def measure_memory(
    host: Host, seconds: float, progress: Progress, root: Path = Path("/")
) -> MemoryResult:
    """Takes about `seconds`, and as long as it takes to fill the buffers once for each node.

    Raises Refused where memory is short, HostError for what the operating system says.
    """
    nodes = _nodes(host)
    places = [node for node in nodes if node.cpus]
    if not places:
        raise Refused("no NUMA node has a CPU that may be used here", "`taskset -pc $$` shows them")
    buffer = _buffer_bytes(places, root)
    _check_room(host, nodes, buffer, root)
    try:
        touches = _touches(places[0], buffer, len(nodes) > 1, progress)
        copies = _copies(nodes, places, buffer, seconds, progress)
    except OSError as error:
        hint = "in a container, allow mbind and sched_setaffinity (CAP_SYS_NICE)"
        raise HostError(f"cannot measure memory: {error.strerror or error}", hint) from error
    return MemoryResult(buffer, copies, touches)


def _nodes(host: Host) -> list[_Node]:
    """One for all, where the kernel tells of none."""
    allowed = sorted(os.sched_getaffinity(0))
    known = host.numa_nodes or (NumaNode(0, cpus=tuple(allowed)),)
    found = []
    for node in known:
        cpus = tuple(cpu for cpu in node.cpus if cpu in allowed)
        found.append(_Node(node.id, cpus[: host.usable_cpus]))
    return found


def _buffer_bytes(places: Sequence[_Node], root: Path) -> int:
    """Of one buffer: whole pieces, one for each thread at least."""
    least = max(
        max(CACHES * caches_bytes(root, node.cpus), len(node.cpus) * PIECE_BYTES) for node in places
    )
    return -(-max(BUFFER_BYTES_MIN, least) // PIECE_BYTES) * PIECE_BYTES


def _check_room(host: Host, nodes: Sequence[_Node], buffer: int, root: Path) -> None:
    """Two buffers at a time, on one node after another. Raises Refused: a node that is full and
    bound to would have the kernel kill somebody."""
    needed = 2 * buffer + SPARE_BYTES
    rooms = [("this host", host.usable_memory_bytes)]
    if len(nodes) > 1:
        rooms += [
            (f"NUMA node {node.id}", room)
            for node in nodes
            if (room := room_on(root, node.id)) is not None
        ]
    for place, room in rooms:
        if room < needed:
            raise Refused(
                f"{place} has {format_bytes(room)} of memory to give, and measuring takes "
                f"{format_bytes(needed)}: two buffers larger than the caches, and something to "
                "spare",
                "stop what uses the memory (an engine holds its L2), and measure again",
            )


class _Memory:
    """A mapping, and where it lies. Closed by whoever has made it, when no thread uses it."""

    def __init__(self, size: int, kind: int, node: int | None, hugepages: str) -> None:
        """Raises OSError. Nothing is behind it yet; what comes is of the node, if one is named."""
        self.size = size
        self._map = mmap.mmap(-1, size, flags=kind | mmap.MAP_ANONYMOUS)
        self._view = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(self._view)
        try:
            advice = mmap.MADV_HUGEPAGE if hugepages == "transparent" else _NO_HUGEPAGES
            _advise(self.address, size, advice, is_needed=False)
            if node is not None:
                bind_range(self.address, size, node)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        del self._view
        self._map.close()


@contextmanager
def _memory(size: int, kind: int, node: int | None, hugepages: str) -> Iterator[_Memory]:
    memory = _Memory(size, kind, node, hugepages)
    try:
        yield memory
    finally:
        memory.close()


_libc = ctypes.CDLL(None, use_errno=True)
_libc.memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_libc.memcpy.restype = ctypes.c_void_p
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def _advise(address: int, size: int, advice: int, *, is_needed: bool = True) -> None:
    """Raises OSError if it is needed: a kernel without transparent hugepages is asked in vain."""
    if _libc.madvise(address, size, advice) != 0 and is_needed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class _Workers:
    """Threads, each on a CPU of its own, that begin together. None outlives the call."""

    def __init__(self, cpus: Sequence[int]) -> None:
        self._cpus = cpus
        self._errors: list[BaseException] = []
        self.stop = threading.Event()
        self.begin_s = 0.0

    def run(self, work: Callable[[int], None]) -> float:
        """`work(number)` in each; how long it took. Raises what one of them raised."""
        gate = threading.Barrier(len(self._cpus), self._begin)

        def body(number: int) -> None:
            try:
                os.sched_setaffinity(0, {self._cpus[number]})  # of this thread alone
                gate.wait()
                work(number)
            except threading.BrokenBarrierError:
                pass  # another one says why
            except BaseException as error:
                self._errors.append(error)
                self.stop.set()
                gate.abort()

        threads = [threading.Thread(target=body, args=(n,)) for n in range(len(self._cpus))]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except RuntimeError as error:  # a limit of processes
            raise OSError(errno.EAGAIN, str(error)) from None
        finally:  # also at Ctrl-C: they use memory that is about to be unmapped
            self.stop.set()
            gate.abort()  # one that could not be started would be waited for by the others
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self._errors:
            raise self._errors[0]
        return time.perf_counter() - self.begin_s

    def _begin(self) -> None:
        self.begin_s = time.perf_counter()


def _touches(home: _Node, buffer: int, is_bound: bool, progress: Progress) -> tuple[TouchRate, ...]:
    """By one thread and by all of a node, of shared memory as L2's."""
    found: list[TouchRate] = []
    counts = sorted({1, len(home.cpus)})
    total = len(HUGEPAGES) * len(counts) * TOUCHES
    for hugepages in HUGEPAGES:
        for count in counts:
            each = min(TOUCH_BYTES, buffer // count) // PIECE_BYTES * PIECE_BYTES
            rates = []
            for _ in range(TOUCHES):
                node = home.id if is_bound else None
                with _memory(each * count, mmap.MAP_SHARED, node, hugepages) as memory:
                    took_s = _populate(memory, home.cpus[:count])
                rates.append(each * count / took_s)
                progress("first touch", len(found) * TOUCHES + len(rates), total)
            found.append(TouchRate(hugepages, count, statistics.median(rates), deviation(rates)))
    return tuple(found)


def _populate(memory: _Memory, cpus: Sequence[int]) -> float:
    """Puts memory behind all of it, a piece for each thread in turn; how long it took."""

    def work(number: int) -> None:
        for at in range(number * PIECE_BYTES, memory.size, len(cpus) * PIECE_BYTES):
            _touch(memory.address + at)

    return _Workers(cpus).run(work)


def _touch(address: int) -> None:
    """A piece. Raises OSError."""
    try:
        _advise(address, PIECE_BYTES, _POPULATE_WRITE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        ctypes.memset(address, 1, PIECE_BYTES)  # the kernel is older than 5.14


def _copies(
    nodes: Sequence[_Node], places: Sequence[_Node], buffer: int, seconds: float, progress: Progress
) -> tuple[CopyRate, ...]:
    """Memory of a node is there once, for the CPUs of all nodes."""
    pairs = [(place, count) for place in places for count in sorted({1, len(place.cpus)})]
    total = len(nodes) * len(pairs)
    found: list[CopyRate] = []
    for where in nodes:
        node = where.id if len(nodes) > 1 else None
        with (
            _memory(buffer, mmap.MAP_PRIVATE, node, "transparent") as source,
            _memory(buffer, mmap.MAP_SHARED, node, "transparent") as target,
        ):
            for memory in (source, target):
                _populate(memory, (where if where.cpus else places[0]).cpus)
            for place, count in pairs:
                rates = _copy(source, target, place.cpus[:count], seconds / total)
                middle = statistics.median(rates)
                found.append(CopyRate(place.id, where.id, count, middle, deviation(rates)))
                progress("copies", len(found), total)
    return tuple(found)


def _copy(source: _Memory, target: _Memory, cpus: Sequence[int], seconds: float) -> list[float]:
    """Rates of the slices. Each thread goes round through a part of its own, so that what it copies
    next is what it has not seen for longest."""
    pieces = source.size // PIECE_BYTES // len(cpus)
    copied: list[list[tuple[float, float]]] = [[] for _ in cpus]
    workers = _Workers(cpus)

    def work(number: int) -> None:
        first, mine, turn = number * pieces, copied[number], 0
        while not workers.stop.is_set():
            at = (first + turn % pieces) * PIECE_BYTES
            begin_s = time.perf_counter()
            _libc.memcpy(target.address + at, source.address + at, PIECE_BYTES)
            end_s = time.perf_counter()
            mine.append((end_s - workers.begin_s, end_s - begin_s))
            turn += 1
            if end_s - workers.begin_s >= seconds:
                return

    took_s = workers.run(work)
    each = [_thread_rates(mine, took_s) for mine in copied if mine]
    return [sum(rates) for rates in zip(*each, strict=True)]


def _thread_rates(copied: Sequence[tuple[float, float]], took_s: float) -> list[float]:
    """Of a thread in each slice, from (end, duration) of its copies: by the median, since the copy
    during which somebody else had the CPU says nothing of the memory. A slice in which it never
    had the CPU is as all of them."""
    slices: list[list[float]] = [[] for _ in range(SLICES)]
    for end_s, duration_s in copied:
        slices[min(int(end_s / took_s * SLICES), SLICES - 1)].append(duration_s)
    whole = statistics.median(duration_s for _, duration_s in copied)
    return [PIECE_BYTES / (statistics.median(part) if part else whole) for part in slices]
