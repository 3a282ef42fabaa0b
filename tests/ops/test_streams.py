"""Output that nobody reads any more, that cannot be written, or that was closed from the start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ops.detached import nothing_left_running
from ops.launched import DRIVER, WAIT_S, kvtier, run_dir, write_profile
from support.engine_process import wait_for

KVTIER = f"{sys.executable} -P -m kvtier_ops"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )


@contextmanager
def nobody_reads() -> Iterator[int]:
    """The end of a pipe whose other end is closed."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    os.close(read_fd)
    yield write_fd
    os.close(write_fd)


@pytest.mark.parametrize("words", ["profile schema", "--help", "doctor --list"])
def test_a_reader_that_leaves_is_no_bug(home: Path, words: str) -> None:
    """141, as of a program that SIGPIPE ended; 1 would be a fault of kvtier's."""
    with nobody_reads() as out:
        done = subprocess.run(
            [*KVTIER.split(), *words.split()], stdout=out, stderr=subprocess.PIPE, timeout=WAIT_S
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("words", ["profile schema", "doctor --list", "--version"])
def test_a_full_disk_is_the_operators(home: Path, words: str) -> None:
    done = shell(f"{KVTIER} {words} > /dev/full")
    assert done.returncode == 3
    assert done.stderr == (
        "error: cannot write to stdout: No space left on device\n"
        "hint: free space there, or write it elsewhere\n"
    )


def test_messages_that_cannot_be_written_change_nothing(home: Path) -> None:
    assert shell(f"{KVTIER} plan nothing.yaml 2> /dev/full").returncode == 2
    assert shell(f"{KVTIER} plan nothing.yaml 2>&-").returncode == 2


def test_closed_streams_are_no_files(home: Path) -> None:
    """What is opened first would get the number of stdout, and what is written there."""
    profile = write_profile(home)
    before = profile.read_bytes()
    done = shell(f"{KVTIER} plan {profile} >&- 2>&- <&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert profile.read_bytes() == before


@pytest.mark.parametrize("arguments", [(), ("--detach",)])
def test_a_reader_that_leaves_ends_no_launch(home: Path, arguments: tuple[str, ...]) -> None:
    """Of both streams, before the first line."""
    profile = write_profile(home)
    with nobody_reads() as out:
        launcher = subprocess.Popen(
            [sys.executable, DRIVER, "launch", str(profile), *arguments],
            stdout=out,
            stderr=out,
            env={**os.environ, "FAKE_ENGINE": '{"steps": 3}'},
        )
    with nothing_left_running(home):
        wait_for(lambda: kvtier("status", str(profile)).returncode == 0, "a ready engine", WAIT_S)
        if arguments:
            assert launcher.wait(WAIT_S) == 0
        assert kvtier("stop", str(profile)).returncode == 0
        assert launcher.wait(WAIT_S) == 0
        assert os.listdir(run_dir(home)) == ["lock"]
