"""The native host-memory arena (L2) and page store (L3). Built from csrc/store.

Knows pages, slots, keys and files; nothing of models or tensors. Memory crosses this
border as integer addresses and lengths in bytes. All calls release the GIL and may be
made from any thread.
"""

from collections.abc import Callable, Sequence
from enum import Enum

KEY_BYTES: int  # 16

def crc32c(data: bytes | bytearray | memoryview, seed: int = 0) -> int:
    """CRC-32C (Castagnoli) of `data`, continuing from `seed`."""

class StoreError(Exception):
    """The directory cannot be opened as a store; the message says why and what to do."""

class ArenaError(Exception):
    """The arena cannot be mapped; the message says why and what to do."""

class Backing(Enum):
    HUGE_1G = ...
    HUGE_2M = ...
    TRANSPARENT = ...
    PLAIN = ...

class ArenaEntry:
    slot: int
    key: bytes
    parent: bytes  # 16 zero bytes for a chain's head
    sequence: int

class Arena:
    """Slots of one page each in shared memory behind a file descriptor (a memfd).

    A slot lies in `parts` pieces, one per tensor-parallel rank: piece r of slot s is at
    `part_address(r) + s * part_stride`, `part_bytes` long. The slot table (key, parent,
    checksum, sequence, state) lives in the same memory, so a later process can adopt the contents.
    """

    @staticmethod
    def open(
        fd: int,
        *,
        slots: int,
        parts: int,
        part_bytes: int,
        namespace: bytes,
        backing: Backing = ...,
        numa_nodes: Sequence[int] = (),
    ) -> Arena:
        """Maps `fd`: adopts it when its header has the same geometry and namespace,
        formats it (and resizes the file) otherwise. The fd is duplicated."""
    @staticmethod
    def attach(fd: int) -> Arena:
        """Maps an arena that another process has opened; takes geometry from its header."""
    @staticmethod
    def required_bytes(slots: int, parts: int, part_bytes: int, backing: Backing = ...) -> int:
        """Bytes of memory that `open` will map: table and slots, each part rounded up to whole
        pages of the backing."""
    slots: int
    parts: int
    part_bytes: int
    part_stride: int
    adopted: bool
    backing: Backing  # what the memory really is, whatever was asked for
    numa_error: str | None  # why a part is not bound to its node, if one is not
    def part_address(self, part: int) -> int: ...
    def part_view(self, part: int) -> memoryview:
        """All slots of one part, writable, `slots * part_stride` bytes, without a copy."""
    def pieces(self, slot: int) -> list[tuple[int, int]]:
        """(address, length) of each part of a slot, in order: a page for Store.submit_*."""
    def prefault(self, threads: int = 2, slots: int | None = None) -> None:
        """Populates the slot table and the memory behind the first `slots` slots (None: all) in
        background threads; returns at once. Called again, it goes on with what is missing, after
        an error as well; it never takes memory back."""
    def release(self, first_slot: int) -> None:
        """Gives the memory behind `first_slot` and all slots after it back to the system, in
        whole pages of the backing: one that a slot before shares stays. A prefault under way
        stops short of it. Raises ArenaError if one of the slots is published. Their bytes are
        gone: `prefault` brings memory back, zeroed. Memory that a device has page-locked must be
        unregistered before, or the device goes on with the old pages."""
    @property
    def populated_bytes(self) -> int:
        """Bytes that `prefault` has populated so far and `release` has not given back."""
    @property
    def target_bytes(self) -> int:
        """What `populated_bytes` comes to: 0 before the first `prefault`."""
    @property
    def prefault_error(self) -> str | None:
        """Why prefaulting stopped early (no memory), if it did; `populated_bytes` stays short."""
    @property
    def mapped_bytes(self) -> int: ...
    def publish(self, slot: int, key: bytes, parent: bytes = ...) -> None:
        """The slot now holds the page of `key`: checksums it and writes its table entry.
        `parent` is the key of the chain's previous page; 16 zero bytes for a chain's head."""
    def retract(self, slot: int) -> None:
        """The slot holds nothing any more. Call before its bytes change."""
    def move(self, source: int, target: int) -> None:
        """The page of slot `source` goes to slot `target`, which holds none, checked or not.
        ArenaError if the one holds none or the other does."""
    def verify(self, slot: int) -> bool:
        """True if the slot's bytes have the checksum that its table entry states."""
    def entries(self) -> list[ArenaEntry]:
        """Published slots, oldest sequence first (after an adoption: verify before use)."""
    def close(self) -> None: ...

class Status(Enum):
    """How a request to the store ended."""

    OK = ...  # get: every byte verified; put: written (durable after flush)
    MISS = ...  # get: not there
    CORRUPT = ...  # get: header, key or checksum disagreed; the page is dropped (a miss)
    IO_ERROR = ...  # get, put: the device failed (a miss)
    TIMED_OUT = ...  # get: deadline passed; the memory may be reused only now
    ALREADY_PRESENT = ...  # put
    NO_ROOM = ...  # put: everything is pinned, or the file system is full
    DROPPED = ...  # put: the write queue is full, or the store is degraded
    CANCELLED = ...  # the store was closed first
    NOT_ADMITTED = ...  # put: the admission rule does not want it yet

class Completion:
    ticket: int
    status: Status

class Get:
    @property
    def ticket(self) -> int: ...
    @property
    def key(self) -> bytes: ...
    @property
    def pieces(self) -> list[tuple[int, int]]: ...
    def __init__(self, ticket: int, key: bytes, pieces: Sequence[tuple[int, int]]) -> None: ...

class Put:
    @property
    def ticket(self) -> int: ...
    @property
    def key(self) -> bytes: ...
    @property
    def parent(self) -> bytes: ...
    @property
    def pieces(self) -> list[tuple[int, int]]: ...
    @property
    def chain_pages(self) -> int: ...
    def __init__(
        self,
        ticket: int,
        key: bytes,
        parent: bytes,
        pieces: Sequence[tuple[int, int]],
        chain_pages: int = 0,
    ) -> None:
        """`parent` is the key of the chain's previous page; 16 zero bytes for a chain's head.
        `chain_pages`: of the chain that the page is offered with, for the admission rule."""

class IoEngine(Enum):
    """How slots are read and written."""

    AUTO = ...  # IO_URING where the kernel and the sandbox allow it, else THREADS
    THREADS = ...  # preadv and pwritev
    IO_URING = ...  # slots in parts, so that checksums overlap with transfers

class Eviction(Enum):
    LRU = ...  # least recently used first
    KEEP_REUSED = ...  # the same, but pages that were read since written count as far younger

class DirectorySpec:
    """A directory, and the bytes on disk that it may use, headers and journal included."""

    def __init__(self, path: str, capacity_bytes: int) -> None: ...
    @property
    def path(self) -> str: ...
    @property
    def capacity_bytes(self) -> int: ...

class StoreOptions:
    """Every field has a default; see csrc/store/options.h. Unknown fields are a TypeError."""

    io_engine: IoEngine  # IO_URING where it is forbidden is a StoreError
    read_depth: int  # reads at once per directory; 0: 4 MiB of pages, 4 at least, 16 at most
    write_depth: int  # writes at once per directory
    eviction: Eviction
    admit_sightings_min: int  # a page is written at its n-th put; 1: at once
    admit_chain_pages_min: int  # chains of so many pages are written at once; 0: none are
    write_queue: int  # pages waiting to be written; a put beyond is DROPPED
    read_timeout_s: float
    stall_timeout_s: float  # an I/O that runs longer takes its directory out of use
    probe_interval_s: float  # when such a directory, or one not open yet, is first tried again
    open_timeout_s: float  # a directory that takes longer to open joins when it is ready
    close_timeout_s: float  # what close waits for a disk that does not answer
    commit_interval_s: float  # what a put may take to become durable without flush
    reserve_bytes: int  # left free on each file system
    def __init__(self, **fields: object) -> None: ...

class DirectoryStats:
    """One directory of a store: counters since open, and gauges. Bytes are payload bytes unless
    named otherwise."""

    path: str
    is_open: bool  # False: it could not be opened so far
    reads_in_use: bool  # its pages can be found
    writes_in_use: bool
    out_of_use_reason: str  # a sentence; empty when both are in use
    direct_io: bool  # past the page cache
    pages: int
    capacity_pages: int
    capacity_bytes: int  # on disk, as given
    used_bytes: int  # on disk
    read_bytes: int
    written_bytes: int
    disk_read_bytes: int  # everything that crossed: headers, padding and journal as well
    disk_written_bytes: int
    disk_written_bytes_last_day: int  # in 24 hours, whichever process wrote them
    lifetime_written_bytes: int  # of the directory, like the next two
    lifetime_disk_written_bytes: int
    lifetime_hit_bytes: int
    io_errors: int
    reads_queued: int
    writes_queued: int
    # Seconds in which a read (a write) of a page ran: what it moved over this is its rate.
    reads_busy_s: float
    writes_busy_s: float

class StoreStats:
    """Counters since open, and gauges; sums where directories have the same field."""

    io_engine: IoEngine  # in use: never AUTO
    pages: int
    capacity_pages: int
    capacity_bytes: int
    used_bytes: int
    recovered_pages: int
    recovery_s: float
    hits: int
    misses: int
    corrupt: dict[str, int]  # by cause: "header", "key", "namespace", "checksum", "short", ...
    read_bytes: int
    written_bytes: int
    # Everything that crossed to and from the disks: headers, padding and journals as well.
    disk_read_bytes: int
    disk_written_bytes: int
    disk_written_bytes_last_day: int  # in 24 hours, whichever process wrote them
    # In the directories' whole lives.
    lifetime_written_bytes: int
    lifetime_disk_written_bytes: int
    lifetime_hit_bytes: int
    evicted: int
    dropped_writes: int
    not_admitted: int
    timed_out_reads: int
    io_errors: int
    degraded: bool  # a directory is out of use
    degraded_reason: str  # of the first such, a sentence; empty when none is
    reads_queued: int
    writes_queued: int
    directories: list[DirectoryStats]  # in the order given at open

class Wear:
    """What a directory's disk has done for its pages, in the directory's whole life."""

    payload_written_bytes: int  # of pages
    disk_written_bytes: int  # everything: headers, padding, journal
    hit_bytes: int  # of pages that were read and found right
    disk_read_bytes: int

class Mark:
    """A moment in a directory's life: about one a minute at first, later thinned."""

    unix_s: int
    sequence: int  # of the next page written
    wear: Wear

class PageInfo:
    """A page by its journal; whether its slot still holds it only a read can tell."""

    key: bytes
    parent: bytes  # 16 zero bytes for a chain's head
    slot: int
    sequence: int
    written_by_unix_s: int  # at the latest

class DirectoryInfo:
    """A store's directory as it looks from outside."""

    problems: list[str]  # a sentence each
    is_store: bool  # of this format version; what follows `holder` is unset otherwise
    version: int
    holder: str  # the process that has it, in words; empty when none has
    uuid: bytes
    namespace: bytes
    page_bytes: int
    created_unix_s: int
    slots: int  # allocated
    allocated_bytes: int  # blocks on disk, of everything the store has there
    journal_records: int
    damaged_records: int
    journal_generation: int
    marks: list[Mark]  # oldest first
    pages: list[PageInfo]  # oldest first
    fitting_capacity_bytes: int  # with which Store.open takes the directory just as it is

def inspect(path: str) -> DirectoryInfo:
    """Looks at a directory that may be damaged, in use, or no store at all; changes nothing.
    What a process writes meanwhile may be missing. StoreError if it is no directory."""

class ScrubReport:
    pages_total: int  # there when it began
    pages: int  # read and compared
    bytes: int  # payload of those
    skipped: int  # gone meanwhile, or in a directory out of use
    unreadable: int  # the disk failed
    bad: dict[str, int]  # by cause, as in StoreStats.corrupt
    stopped: bool  # by `progress`, or as the store was closed

class Store:
    """Pages on disk in one or several directories."""

    @staticmethod
    def open(
        directories: Sequence[DirectorySpec],
        *,
        page_bytes: int,
        namespace: bytes,
        options: StoreOptions | None = None,
    ) -> Store:
        """Opens or creates; recovers the index. A directory whose disk fails or hangs is left out
        and joins when it works. Raises StoreError with a sentence for an operator (in use by pid
        N, other geometry, no permission, symlink, ..., or that the disks of all of them fail)."""
    page_bytes: int
    def contains(self, keys: Sequence[bytes]) -> list[bool]: ...
    def longest_prefix(self, keys: Sequence[bytes]) -> int:
        """How many leading keys of a chain are present."""
    def submit_get(self, batch: Sequence[Get]) -> None:
        """The caller's memory must stay valid until the ticket completes."""
    def submit_put(self, batch: Sequence[Put]) -> None:
        """The caller's memory must stay valid and unchanged until the ticket completes."""
    def event_fd(self) -> int:
        """Readable when completions are waiting (drained by poll)."""
    def poll(self, limit: int = 1024) -> list[Completion]: ...
    def wait(self, timeout_s: float, limit: int = 1024) -> list[Completion]: ...
    def touch(self, keys: Sequence[bytes]) -> None:
        """Marks as just used, in the order given: the last is the most recent."""
    def pin(self, keys: Sequence[bytes]) -> None: ...
    def unpin(self, keys: Sequence[bytes]) -> None: ...
    def evict(self, keys: Sequence[bytes]) -> int: ...
    def clear(self) -> int:
        """Drops all pages; how many. StoreError if a directory out of use keeps its own."""
    def verify(
        self, progress: Callable[[ScrubReport], bool | None] | None = None, bytes_per_s: int = 0
    ) -> ScrubReport:
        """Reads every page and compares it as a get does; bad ones are dropped and counted.
        Requests go first. `progress` is called after every page: False stops, and so does what
        it raises. `bytes_per_s` 0: as fast as the disk."""
    def flush(self) -> None:
        """Returns when everything reported OK before the call survives power loss. StoreError
        when a disk failed at that, or does not answer."""
    def stats(self) -> StoreStats: ...
    def close(self) -> None:
        """Flushes, fails what is queued with CANCELLED, releases the locks. Idempotent. StoreError
        when a disk does not answer in `close_timeout_s`: requests that run there keep their
        memory, and this process the directory, until it does."""
