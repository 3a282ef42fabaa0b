"""SIGINT, SIGTERM and SIGHUP as a count that a waiting loop can see."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any

from kvtier_ops.interrupt import heeded


class StopSignals:
    """While entered, the stop signals of this process only count. Main thread only.

    Python runs handlers in the main thread alone, but the kernel may give a signal to any: one that
    another thread takes interrupts nobody's wait. So it is Python's own C handler that writes into
    the pipe, in whatever thread it runs (`signal.set_wakeup_fd`).
    """

    def __init__(self) -> None:
        self.count = 0
        self._read_fd, self._write_fd, self._wakeup_before = -1, -1, -1
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in heeded():
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    def wait(self, fds: Iterable[int], timeout_s: float | None) -> list[int]:
        """Returns when one of `fds` is readable, a signal has come, or time is up: those fds."""
        ready, _, _ = select.select([*fds, self._read_fd], [], [], timeout_s)
        if self._read_fd in ready:
            os.read(self._read_fd, 4096)
            ready.remove(self._read_fd)
        return ready
