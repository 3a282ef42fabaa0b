"""Rank 0 here, the other ranks in processes of their own; all run the same steps.

Core and rank r talk over two ipc sockets in run_dir: steps down (PUSH to `rank-r`), and
up (PULL at `ranks`) the number of the last step whose offloads are complete.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import zmq

from kvtier_engine.runner.step import Sampled, Step

if TYPE_CHECKING:
    from kvtier_engine.runner.runner import Runner

log = logging.getLogger(__name__)

SEND_S_MAX = 30.0  # for a rank to take a step that it has room for
LOADED = -1  # what a rank reports once it has loaded the model


class RankDied(Exception):
    """A rank's process ended; the engine cannot go on."""


class RankReport(msgspec.Struct, frozen=True, array_like=True):
    rank: int
    offloads_done: int  # LOADED, or a step's number


def steps_address(run_dir: Path, rank: int) -> str:
    return f"ipc://{run_dir}/rank-{rank}"


def reports_address(run_dir: Path) -> str:
    return f"ipc://{run_dir}/ranks"


class RankSet:
    """The ranks as one: `execute` on all, `offloads_done` by the slowest."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], run_dir: Path, ranks: int) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(RankReport)
        self._runner: Runner | None = None
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._steps: dict[int, zmq.Socket[bytes]] = {}
        self._offloads_done: dict[int, int] = {}
        self._loaded: set[int] = set()
        self._reports = context.socket(zmq.PULL)
        self._reports.bind(reports_address(run_dir))
        for rank in range(1, ranks):
            socket = context.socket(zmq.PUSH)
            socket.bind(steps_address(run_dir, rank))
            self._steps[rank] = socket
            self._offloads_done[rank] = 0

    def start(
        self, config_file: Path, arena_fd: int | None = None, slots_in_use: int | None = None
    ) -> None:
        """Starts the processes of ranks 1 and up; they load while rank 0 does."""
        for rank in self._steps:
            command = [sys.executable, "-P", "-m", "kvtier_engine.core.rank"]
            command += ["--config", str(config_file), "--rank", str(rank)]
            command += ["--parent-pid", str(os.getpid())]
            if arena_fd is not None:
                command += ["--arena-fd", str(arena_fd)]
            if slots_in_use is not None:
                command += ["--slots-in-use", str(slots_in_use)]
            fds = () if arena_fd is None else (arena_fd,)
            self._processes[rank] = subprocess.Popen(command, pass_fds=fds)

    def ready(self, runner: Runner, timeout_s: float = 600.0) -> None:
        """Rank 0 is `runner`; waits until the others have loaded too. Raises RankDied."""
        self._runner = runner
        while len(self._loaded) < len(self._steps):
            if not self._reports.poll(1000):
                timeout_s -= 1.0
                self.check_alive()
                if timeout_s <= 0:
                    missing = sorted(set(self._steps) - self._loaded)
                    raise RankDied(f"ranks {missing} have not loaded the model in time")
                continue
            self._take_reports()

    def execute(self, step: Step) -> list[Sampled]:
        assert self._runner is not None
        if self._steps:
            frame = self._encoder.encode(step)
            for rank in self._steps:
                self._send(rank, frame)
        return self._runner.execute(step)

    def offloads_done(self) -> int:
        assert self._runner is not None
        self._take_reports()
        return min([self._runner.offloads_done(), *self._offloads_done.values()])

    def check_alive(self) -> None:
        """Raises RankDied if a rank's process has ended."""
        for rank, process in self._processes.items():
            if process.poll() is not None:
                raise RankDied(f"rank {rank} ended with status {process.returncode}")

    def close(self) -> None:
        """Ends the ranks and waits for them."""
        for socket in self._steps.values():
            with suppress(zmq.Again):  # it has gone already
                socket.send(b"", zmq.NOBLOCK)
        if self._runner is not None:
            self._runner.close()
        for rank, process in self._processes.items():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                log.warning("rank %d does not end, killing it", rank)
                process.kill()
                process.wait()
        for socket in (*self._steps.values(), self._reports):
            socket.close(linger=100)

    def _send(self, rank: int, frame: bytes) -> None:
        """A rank that has gone has no end of the socket: a plain send would wait for ever."""
        socket = self._steps[rank]
        deadline = time.monotonic() + SEND_S_MAX
        while not socket.poll(100, zmq.POLLOUT):
            self.check_alive()
            if time.monotonic() > deadline:
                raise RankDied(f"rank {rank} takes no more steps")
        socket.send(frame)

    @property
    def reports(self) -> zmq.Socket[bytes]:
        """Readable when a rank has something to say."""
        return self._reports

    def _take_reports(self) -> None:
        while self._reports.poll(0):
            report = self._decoder.decode(self._reports.recv())
            if report.offloads_done == LOADED:
                self._loaded.add(report.rank)
            else:
                self._offloads_done[report.rank] = report.offloads_done
