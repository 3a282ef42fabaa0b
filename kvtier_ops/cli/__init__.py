"""The command `kvtier`.

What it imports takes a third of a second, in which Ctrl-C is to end it as at any other time.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

from kvtier_ops.errors import ExitCode
from kvtier_ops.interrupt import raise_on_stop, was_stopped

__all__ = ["main", "run"]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point: every way out goes through one exit code and, if need be, one message."""
    try:
        raise_on_stop()
        _open_standard_streams()
        code = run(sys.argv[1:] if arguments is None else arguments)
    except BaseException:
        if not was_stopped():
            raise
        with contextlib.suppress(OSError):
            print("interrupted", file=sys.stderr or open(os.devnull, "w"))  # noqa: SIM115
        code = ExitCode.INTERRUPTED
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of `kvtier ARGUMENTS`."""
    from kvtier_ops.cli.entry import run as run_command

    return run_command(arguments)


def _open_standard_streams() -> None:
    """One that the caller has closed would be the number of the next file that is opened, and get
    what is meant for a terminal."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(found, True)
