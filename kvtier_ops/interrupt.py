"""Stop signals as KeyboardInterrupt, and a memory of them.

What a handler raises comes out wherever the code happens to be, and there it may become something
else: a native module whose import it ends is an ImportError, which looks like a broken
installation. So whoever goes on after an error asks first whether it was a signal.
"""

from __future__ import annotations

import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_came: list[int] = []


def heeded() -> list[signal.Signals]:
    """Those that whoever started us has not had ignored, as `nohup` has SIGHUP."""
    return [each for each in STOP_SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]


def raise_on_stop() -> None:
    """From here on each of them raises KeyboardInterrupt in the main thread."""
    for number in heeded():
        signal.signal(number, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    _came.append(number)
    raise KeyboardInterrupt


def was_stopped() -> bool:
    """Whether one has come, whatever became of the exception."""
    return bool(_came)


def raise_if_stopped() -> None:
    """Raises KeyboardInterrupt if one has come."""
    if _came:
        raise KeyboardInterrupt
