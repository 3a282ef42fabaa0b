"""Talks to a launcher through the socket in its run folder: a line of JSON there, lines back.

`{"do": "restart"}` -> any number of `{"note": TEXT}`, then `{"done": TEXT}` or
`{"problems": [...], "exit_code": N}`. The first line comes at once, whatever the order takes.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from kvtier_ops.errors import KvtierError, Problem, Refused
from kvtier_ops.instances.find import NotRunning
from kvtier_ops.instances.state import Instance

FIRST_LINE_S = 10.0  # that a launcher has, which may be about another order's


class LauncherRefused(KvtierError):
    """What the launcher answered: its problems, and the exit code that they amount to."""

    def __init__(self, problems: list[Problem], exit_code: int) -> None:
        super().__init__()
        self.problems = tuple(problems)
        self.exit_code = exit_code


def order(instance: Instance, what: str, note: Callable[[str], None]) -> str:
    """Has the launcher do it, and waits; its answer. Raises KvtierError."""
    name = instance.state.name
    if instance.has_ended_well:
        raise NotRunning(f"`{name}` has ended meanwhile", "`kvtier launch` starts it again")
    if not instance.is_alive:
        raise NotRunning(
            f"`{name}` is dead: its launcher was killed (pid {instance.state.pid})",
            "`kvtier launch` starts it again and cleans up; `kvtier ps --clean` only cleans up",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(FIRST_LINE_S)
        try:
            connection.connect(str(instance.control_socket))
            connection.sendall(json.dumps({"do": what}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                for line in lines:
                    connection.settimeout(None)  # it is at it: a drain takes as long as it takes
                    said = json.loads(line)
                    if "note" in said:
                        note(str(said["note"]))
                    else:
                        return _answer(said)
        except (TimeoutError, BlockingIOError):  # it is silent, or its queue is full by now
            raise _silent(instance) from None
        except (OSError, ValueError) as error:
            raise Refused(
                f"the launcher of `{name}` cannot be asked: {error}",
                f"`kvtier status {name}` says what it does",
            ) from None
    raise Refused(
        f"the launcher of `{name}` ended before it had an answer",
        f"`kvtier logs {name}` says why",
    )


def _silent(instance: Instance) -> Refused:
    """It drops the order when it finds that nobody waits any more."""
    name, pid = instance.state.name, instance.state.pid
    return Refused(
        f"the launcher of `{name}` does not answer within {FIRST_LINE_S:g} s; nothing is changed",
        f"it may be about another order, as `kvtier logs {name}` says; or it is halted, and "
        f"`ps -o stat -p {pid}` says `T`: `kill -CONT {pid}` lets it go on",
    )


def _answer(said: dict[str, Any]) -> str:
    if "done" in said:
        return str(said["done"])
    known = {field.name for field in fields(Problem)}
    problems = [
        Problem(**{name: str(text) for name, text in each.items() if name in known})
        for each in said["problems"]
    ]
    raise LauncherRefused(problems, int(said["exit_code"]))
