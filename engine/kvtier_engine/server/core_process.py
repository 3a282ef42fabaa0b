"""The core's process: its start, its end, and what its end means."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kvtier_engine.config import EngineConfig


class CoreProcess:
    """A child that the kernel kills with us (see kvtier_engine.process), in a process group
    of its own: Ctrl-C in a terminal reaches only the server, which then drains."""

    def __init__(self, command: Sequence[str], pass_fds: Sequence[int] = ()) -> None:
        self._process = subprocess.Popen(command, pass_fds=pass_fds, process_group=0)
        self._pidfd = os.pidfd_open(self._process.pid)

    @classmethod
    def start(cls, config: EngineConfig, config_file: Path, endpoint: str) -> CoreProcess:
        """Starts the core, which will connect to `endpoint`. Call it from the main thread:
        the kernel takes the end of the thread that starts a child for the parent's end."""
        module = [sys.executable, "-P", "-m", "kvtier_engine.core"]
        options = ["--config", str(config_file), "--socket", endpoint]
        arena_fd = config.cache.l2.arena_fd
        return cls(
            [*module, *options, "--parent-pid", str(os.getpid())],
            () if arena_fd is None else (arena_fd,),
        )

    async def ended(self) -> int:
        """Waits for the end; the exit status, or minus the signal's number."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._pidfd, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._pidfd)
        return self._process.wait()

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Leaves no child behind, whatever happened before."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._pidfd)


def describe_end(status: int) -> str:
    """`exit status 3` or `signal SIGKILL`, for the log."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
