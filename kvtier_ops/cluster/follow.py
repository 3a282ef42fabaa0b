"""Any other node of a meeting: finds node 0, says who it is, and does what the verdict says."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from typing import cast

from kvtier_ops.cluster.lead import LOOK_S_MAX
from kvtier_ops.cluster.shared import Marks
from kvtier_ops.cluster.terms import Terms, addresses
from kvtier_ops.cluster.wire import (
    Challenge,
    Channel,
    Hello,
    Kind,
    Look,
    Node,
    NotANode,
    OtherProtocol,
    Verdict,
)
from kvtier_ops.errors import ChecksFailed, Problem

CONNECT_S_MAX = 3.0
ANSWER_S_MAX = 10.0  # for node 0 to say its first word
RETRY_S_FIRST, RETRY_S_MAX = 0.1, 2.0
SPARE_S = 15.0  # that the verdict may come later than node 0 said
_READ_BYTES = 65536
_WENT_AWAY = "it went away before all had come"


class _Lost(Exception):
    """The connection ended, or nothing came in time: it is worth another try."""


def follow(node: Node, terms: Terms, marks: Marks, say: Callable[[str], None]) -> Verdict:
    """The verdict of node 0. Raises ChecksFailed if there is none before the deadline."""
    deadline = time.monotonic() + terms.timeout_s
    told, wait_s, why, hint = "", RETRY_S_FIRST, "", ""
    while True:
        try:
            with _connect(terms, deadline) as connection:
                return _talk(connection, node, terms, marks, say)
        except (OSError, _Lost) as error:
            why, hint = _reason(error)
        if why != told:
            say(f"node {node.shown} waits for node 0 at {terms.place}: {why}")
            told = why
        left = deadline - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(wait_s, left))
        wait_s = min(RETRY_S_MAX, 2 * wait_s)
    what = f"node 0 was not there at {terms.place} within {terms.timeout_s:g} s: {why}"
    raise ChecksFailed([Problem(what, hint, "cluster.master_address", id="KVT-D702")])


def _connect(terms: Terms, deadline: float) -> socket.socket:
    """Tries each address once. Raises OSError, of the last one."""
    last: OSError = OSError(errno.EHOSTUNREACH, "no address")
    for family, address in addresses(terms.address, terms.port):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(max(0.1, min(CONNECT_S_MAX, deadline - time.monotonic())))
            connection.connect(address)
            return connection
        except OSError as error:
            connection.close()
            last = error
    raise last


def _talk(
    connection: socket.socket,
    node: Node,
    terms: Terms,
    marks: Marks,
    say: Callable[[str], None],
) -> Verdict:
    channel = Channel(terms.secret, leads=False)
    try:
        challenge = _next(connection, channel, Challenge, time.monotonic() + ANSWER_S_MAX)
        if isinstance(challenge, Verdict):
            return challenge
        connection.sendall(channel.pack(Hello(node=node)))
        say(f"node {node.shown} has found node 0 at {terms.place}")
        until = time.monotonic() + challenge.left_s + LOOK_S_MAX + SPARE_S
        said = _next(connection, channel, Look, until)
        if isinstance(said, Verdict):
            return said
        seen = marks.look({int(rank): mark for rank, mark in said.marks.items()})
        connection.sendall(channel.pack(seen))
        until = time.monotonic() + LOOK_S_MAX + SPARE_S
        return _next(connection, channel, Verdict, until)
    except (NotANode, OtherProtocol) as error:
        raise ChecksFailed([_stranger(terms, str(error))]) from None


def _next(
    connection: socket.socket, channel: Channel, kind: type[Kind], deadline: float
) -> Kind | Verdict:
    """The next message: of this kind, or the verdict. Raises _Lost, NotANode, OtherProtocol."""
    while True:
        message = cast("Kind | Verdict | None", channel.take(kind, Verdict))
        if message is not None:
            return message
        left = deadline - time.monotonic()
        if left <= 0:
            raise _Lost("it says nothing more")
        connection.settimeout(left)
        try:
            data = connection.recv(_READ_BYTES)
        except TimeoutError:
            raise _Lost("it says nothing more") from None
        if not data:
            raise _Lost(_WENT_AWAY)
        channel.feed(data)


def _stranger(terms: Terms, why: str) -> Problem:
    return Problem(
        f"what listens at {terms.place} is not node 0 of this cluster: {why}",
        "`cluster.master_address` and `master_port` are those of node 0, whose kvtier is the same "
        "and which has the same `cluster.secret`",
        "cluster.master_address",
        id="KVT-D702",
    )


def _reason(error: OSError | _Lost) -> tuple[str, str]:
    """Why node 0 cannot be reached, and what to look at."""
    if isinstance(error, _Lost):
        return str(error), "see what node 0 says"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return _WENT_AWAY, "see what node 0 says"
    if isinstance(error, socket.gaierror):
        return (
            f"the name does not resolve ({error.strerror})",
            "`cluster.master_address` is an address of node 0, or a name that every node resolves",
        )
    if isinstance(error, TimeoutError):
        return (
            "no answer",
            "a firewall drops what is sent there, or the machine is down: let "
            "`cluster.master_port` through",
        )
    if isinstance(error, ConnectionRefusedError):
        return "connection refused", "nothing listens there: start node 0, or mend the address"
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"{error.strerror}", "there is no way to that address: `ip route get` it"
    return error.strerror or str(error), "see what node 0 says"
