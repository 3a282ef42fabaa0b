"""Stop signals as a count, and as an end of every wait."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.launched import WAIT_S
from support.engine_process import wait_for

from kvtier_ops.interrupt import STOP_SIGNALS
from kvtier_ops.launch.signals import StopSignals


def test_a_signal_that_another_thread_takes_ends_the_wait() -> None:
    """As the kernel does it when the main thread was stopped: the handler in Python runs in the
    main thread, which nothing has interrupted."""

    def send() -> None:
        main = Path(f"/proc/self/task/{threading.main_thread().native_id}/stat")
        wait_for(lambda: main.read_text().rpartition(")")[2].split()[0] == "S", "the main thread")
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    with StopSignals() as signals:
        thread = threading.Thread(target=send)
        thread.start()
        began = time.monotonic()
        assert signals.wait((), WAIT_S) == []
        assert time.monotonic() - began < WAIT_S, "it waited to the end"
        assert signals.count == 1
        thread.join()


@pytest.fixture
def defaults() -> Iterator[None]:
    """Whoever runs the tests may have had some ignored, as `nohup` does."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("defaults")
def test_every_signal_counts_and_what_was_there_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    read_fd, write_fd = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(write_fd)
    try:
        with StopSignals() as signals:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                signal.raise_signal(number)
            assert signals.wait((), 0.0) == []
            assert signals.count == 4
            assert signals.wait((), 0.0) == []
        assert signal.getsignal(signal.SIGTERM) is before
        assert signal.set_wakeup_fd(write_fd) == write_fd
    finally:
        signal.set_wakeup_fd(-1)
        os.close(read_fd)
        os.close(write_fd)
