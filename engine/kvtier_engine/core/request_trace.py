"""A line for each request that has ended: what `kvtier simulate` needs to try other sizes.

Each is a JSON object in the form of Mooncake's traces: `timestamp` (milliseconds since 1970, of
arrival), `input_length` and `output_length` (tokens), `hash_ids` (one for each full page of the
prompt). Besides: `block_tokens`; `answer_ids`, of the pages that the answer filled; `hits`, tokens
found in each tier; `ttft_ms`; `no_store`, if the request had that hint. There is no text: an id is
52 bits of the page's key (a JSON reader's largest exact number has 53), and keys of different
tenants and salts differ. Lines come in the order in which requests ended. Requests that ended
before their first token have none.

Another thread writes them. A disk that is full, gone or hanging costs lines, which are counted,
and neither requests nor steps.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import queue
import stat
import threading
import time
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvtier_engine.core.ascent import OWN

if TYPE_CHECKING:
    from kvtier_engine.core.sequence import Sequence
    from kvtier_engine.messages import CachedTokens

log = logging.getLogger(__name__)

WAITING_MAX = 1024  # requests whose lines are not written yet; those beyond are lost
LINES_MAX = 256  # in one write
CLOSE_S_MAX = 2.0  # a clean stop waits no longer for the last lines
_ID_BITS = 52


@dataclass(slots=True)
class Record:
    """What is known of a request while it runs."""

    arrived_unix_s: float
    arrived_s: float  # time.monotonic()
    first_token_s: float | None = None
    cached: CachedTokens | None = None

    def answered(self, cached: CachedTokens) -> None:
        """Its first token has been drawn."""
        self.first_token_s, self.cached = time.monotonic(), cached


@dataclass(frozen=True, slots=True)
class _Ended:
    record: Record
    input_tokens: int
    output_tokens: int
    keys: list[bytes]  # of all full pages that were computed or found
    stores: bool


class RequestTrace:
    """Takes what the scheduler tells it, at no cost for the step."""

    def __init__(self, path: Path, page_tokens: int) -> None:
        self._file = _TraceFile(path)
        self._page_tokens = page_tokens
        self._waiting: queue.Queue[_Ended | None] = queue.Queue(WAITING_MAX)
        self._overrun = 0
        self._unwritten = 0  # changed by the thread alone
        self.lines = 0  # written; the same
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="request-trace", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._overrun + self._unwritten

    def arrived(self) -> Record:
        return Record(time.time(), time.monotonic())

    def ended(self, seq: Sequence) -> None:
        """The sequence is over; its keys are still there."""
        record, request = seq.record, seq.request
        if record is None or record.cached is None or request.request_id.startswith(OWN):
            return
        # A preempted sequence is computed anew: the keys of its prompt are there all the same.
        prompt_pages = seq.prompt_tokens // self._page_tokens
        keys = seq.kv.chain.keys[: max(seq.computed // self._page_tokens, prompt_pages)]
        if len(keys) < prompt_pages:
            self._overrun += 1
            return
        ended = _Ended(record, seq.prompt_tokens, seq.answer_tokens, keys, seq.kv.stores)
        try:
            self._waiting.put_nowait(ended)
        except queue.Full:
            self._overrun += 1

    def close(self) -> None:
        """Writes what waits, as far as the disk lets it."""
        deadline = time.monotonic() + CLOSE_S_MAX
        try:
            self._waiting.put(None, timeout=CLOSE_S_MAX)
        except queue.Full:
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))

    # The thread.

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch: list[_Ended] = []
            item = self._waiting.get()
            while item is not None:
                batch.append(item)
                if len(batch) == LINES_MAX or self._waiting.empty():
                    break
                item = self._waiting.get()
            is_open = item is not None
            if batch:
                self._write(batch)
        self._file.close()

    def _write(self, batch: Rows[_Ended]) -> None:
        try:
            text = "".join(self._line(each) for each in batch)
            self._file.append(text.encode())
        except OSError as error:
            if not self._is_failing:
                self._is_failing = True
                log.error(
                    "the request trace `%s` cannot be written: %s; requests go on, their lines "
                    "are lost (kvtier_request_trace_lost_total)",
                    self._file.path,
                    error.strerror or error,
                )
            self._unwritten += len(batch)
        else:
            if self._is_failing:
                self._is_failing = False
                log.warning("the request trace `%s` is written again", self._file.path)
            self.lines += len(batch)

    def _line(self, ended: _Ended) -> str:
        record, size = ended.record, self._page_tokens
        assert record.cached is not None and record.first_token_s is not None, "it was answered"
        ids = [page_id(key) for key in ended.keys]
        prompt_pages = ended.input_tokens // size
        line = {
            "timestamp": int(record.arrived_unix_s * 1000),
            "input_length": ended.input_tokens,
            "output_length": ended.output_tokens,
            "hash_ids": ids[:prompt_pages],
            "block_tokens": size,
            "answer_ids": ids[prompt_pages:],
            "hits": {"l1": record.cached.l1, "l2": record.cached.l2, "l3": record.cached.l3},
            "ttft_ms": round((record.first_token_s - record.arrived_s) * 1000, 3),
        }
        if not ended.stores:
            line["no_store"] = True
        return json.dumps(line, separators=(",", ":")) + "\n"


def page_id(key: bytes) -> int:
    """What stands for the page in a trace."""
    return int.from_bytes(key[:8], "big") >> (64 - _ID_BITS)


class _TraceFile:
    """Whole lines at the end of a file that others may rename, remove or write to as well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._is_torn = False  # it ends in the middle of a line

    def append(self, lines: bytes) -> None:
        """All of them or none. Raises OSError."""
        fd = self._open()
        data = b"\n" + lines if self._is_torn else lines
        before, written = os.fstat(fd).st_size, 0
        try:
            while written < len(data):
                written += os.write(fd, data[written:])
        except OSError:
            if written:
                self._take_back(fd, before, written)
            raise
        self._is_torn = False

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        """The file that has the name now: logrotate may have moved the last one away."""
        if self._fd is not None and not self._is_current(self._fd):
            self.close()
        if self._fd is None:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            fd = os.open(self.path, flags, 0o600)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(errno.EINVAL, "it is no ordinary file")
                if status.st_uid != os.geteuid():
                    raise OSError(errno.EPERM, "it belongs to somebody else")
                if status.st_mode & 0o077:  # as logrotate may have made it
                    os.fchmod(fd, 0o600)
                end = os.pread(fd, 1, status.st_size - 1) if status.st_size else b"\n"
            except OSError:
                os.close(fd)
                raise
            self._fd, self._is_torn = fd, end != b"\n"
        return self._fd

    def _is_current(self, fd: int) -> bool:
        try:
            named = self.path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(fd))

    def _take_back(self, fd: int, before: int, written: int) -> None:
        """A part of a line is worse than none. Where others have written behind it, it stays, and
        the next line begins anew."""
        try:
            if os.fstat(fd).st_size == before + written:
                os.ftruncate(fd, before)
                return
        except OSError as error:
            log.debug("cannot take back a part of a line: %s", error)
        self._is_torn = True
