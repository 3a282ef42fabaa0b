"""SIGINT, SIGTERM and SIGHUP as a count that a waiting loop can see."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any

from kvtier_ops.tune.uninterrupted import STOP_SIGNALS


class StopSignals:
    """While entered, the stop signals of this process only count. Main thread only."""

    def __init__(self) -> None:
        self.count = 0
        self._read_fd, self._write_fd = -1, -1
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in STOP_SIGNALS:
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
        os.close(self._read_fd)
        os.close(self._write_fd)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes the loop as well
            os.write(self._write_fd, b"!")

    def wait(self, fds: Iterable[int], timeout_s: float | None) -> list[int]:
        """Returns when one of `fds` is readable, a signal has come, or time is up: those fds."""
        ready, _, _ = select.select([*fds, self._read_fd], [], [], timeout_s)
        if self._read_fd in ready:
            os.read(self._read_fd, 4096)
            ready.remove(self._read_fd)
        return ready
