"""What must not be left half done: a second Ctrl-C, or the SIGTERM of a service manager, waits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kvtier_ops.interrupt import STOP_SIGNALS


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Stop signals of this process come after the block; for blocks that do not wait. Handlers,
    not the mask of a thread: another one would take the signal. Only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def keep(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, keep) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for each in dict.fromkeys(came):
        signal.raise_signal(each)
