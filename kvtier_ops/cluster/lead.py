"""Node 0 of a meeting: waits for the others, hears them, and tells all of them what comes of it."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kvtier_ops.cluster.node import disagreements, twice
from kvtier_ops.cluster.shared import Marks, shared_problems
from kvtier_ops.cluster.terms import Terms, addresses
from kvtier_ops.cluster.wire import (
    Challenge,
    Channel,
    Hello,
    Look,
    Node,
    NotANode,
    OtherProtocol,
    Said,
    Seen,
    Verdict,
)
from kvtier_ops.errors import ChecksFailed, Problem
from kvtier_ops.text import printable

HELLO_S_MAX = 10.0  # from connecting to a complete hello
LOOK_S_MAX = 30.0  # for all to have looked into their directories
GRACE_S = 5.0  # for others to come and hear what is wrong already
STRANGERS_TOLD = 20
PEERS_MAX = 256  # connections at a time: strangers cannot use up our files
_SEND_S_MAX = 5.0
_RETRY_S = 0.5
_READ_BYTES = 65536


@dataclass
class _Peer:
    """One connection. `node` is None until it has said hello."""

    socket: socket.socket
    address: str
    channel: Channel
    deadline: float
    node: Node | None = None
    seen: Seen | None = field(default=None)


class Leader:
    """Runs once. One thread, no peer can make it wait for another."""

    def __init__(self, node: Node, terms: Terms, marks: Marks, say: Callable[[str], None]) -> None:
        self._node = node
        self._terms = terms
        self._marks = marks
        self._say = say
        self._peers: dict[int, _Peer] = {}
        self._problems: list[Problem] = list(marks.problems)
        self._strangers = 0
        self._is_looking = False
        self._deadline = time.monotonic() + terms.timeout_s

    def run(self) -> Verdict:
        with self._listen() as listener, selectors.DefaultSelector() as selector:
            self._selector = selector
            selector.register(listener, selectors.EVENT_READ)
            self._say(
                f"node {self._node.shown} waits at {self._terms.place} for "
                f"{self._terms.nodes - 1} more, {self._terms.timeout_s:g} s at most"
            )
            try:
                while not self._is_over():
                    for key, _ in selector.select(self._wait_s()):
                        if key.fileobj is listener:
                            self._accept(listener)
                        else:
                            self._receive(self._peers[key.fd])
                    self._drop_late()
                return self._finish()
            finally:
                for peer in list(self._peers.values()):
                    self._drop(peer)

    def _came(self) -> dict[int, _Peer]:
        return {peer.node.rank: peer for peer in self._peers.values() if peer.node is not None}

    def _is_over(self) -> bool:
        """True when there is a verdict. Goes on from waiting to looking when all have come."""
        if time.monotonic() >= self._deadline:
            return True
        came = self._came()
        if self._is_looking:
            return all(peer.seen for peer in came.values())
        if len(came) < self._terms.nodes - 1:
            return False
        if self._problems:
            return True
        self._is_looking = True
        self._deadline = time.monotonic() + LOOK_S_MAX
        marks = {0: self._node.mark}
        marks.update({r: peer.node.mark for r, peer in came.items() if peer.node})
        for rank, peer in came.items():
            others = {str(r): mark for r, mark in marks.items() if r != rank}
            self._send(peer, Look(marks=others))
        return False

    def _finish(self) -> Verdict:
        came = self._came()
        shown = {0: self._node.shown, **{r: p.node.shown for r, p in came.items() if p.node}}
        if self._is_looking:
            self._problems += self._looked(came, shown)
        elif len(came) < self._terms.nodes - 1:
            self._problems.insert(0, self._missing(shown))
        verdict = Verdict(
            nodes=[shown[rank] for rank in sorted(shown)],
            problems=[Said.of(problem) for problem in self._problems],
        )
        for peer in came.values():
            self._send(peer, verdict)
        return verdict

    def _looked(self, came: dict[int, _Peer], shown: dict[int, str]) -> list[Problem]:
        marks = {rank: peer.node.mark for rank, peer in came.items() if peer.node}
        seen = {0: self._marks.look(marks)}
        problems = []
        for rank in range(1, self._terms.nodes):
            peer = came.get(rank)
            if peer is not None and peer.seen is not None:
                seen[rank] = peer.seen
            else:
                what = "went away" if peer is None else f"did not answer within {LOOK_S_MAX:g} s"
                name = shown.get(rank, str(rank))
                problems.append(
                    Problem(
                        f"node {name} {what} while directories were looked into",
                        "see what it says, and start all nodes again",
                        id="KVT-D705",
                    )
                )
        for rank, each in sorted(seen.items()):
            for directory in each.unseen:
                self._say(f"not checked on node {shown[rank]} whether it is shared: {directory}")
        return problems + shared_problems(seen, shown)

    def _missing(self, shown: dict[int, str]) -> Problem:
        absent = [rank for rank in range(self._terms.nodes) if rank not in shown]
        named = ", ".join(map(str, absent))
        came = ", ".join(shown[rank] for rank in sorted(shown))
        many = len(absent) > 1
        return Problem(
            f"node{'s' * many} {named} of {self._terms.nodes} (numbered from 0) did not come to "
            f"{self._terms.place} within {self._terms.timeout_s:g} s; came: {came}",
            f"see what {'they say' if many else 'it says'}; `cluster.meet_timeout_s` decides how "
            "long is waited",
            "cluster.nodes",
            id="KVT-D702",
        )

    def _wait_s(self) -> float:
        deadlines = [p.deadline for p in self._peers.values() if p.node is None]
        return max(0.0, min([self._deadline, *deadlines]) - time.monotonic())

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, address = listener.accept()
        except OSError:  # it has gone again
            return
        connection.settimeout(_SEND_S_MAX)
        name = f"{address[0]}:{address[1]}"
        channel = Channel(self._terms.secret, leads=True)
        peer = _Peer(connection, name, channel, time.monotonic() + HELLO_S_MAX)
        if len(self._peers) >= PEERS_MAX:
            connection.close()
            self._tell_stranger(name, "there are too many connections")
            return
        self._peers[connection.fileno()] = peer
        self._selector.register(connection, selectors.EVENT_READ)
        self._send(peer, Challenge(left_s=max(0.0, self._deadline - time.monotonic())))

    def _receive(self, peer: _Peer) -> None:
        try:
            data = peer.socket.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._gone(peer)
            return
        try:
            peer.channel.feed(data)
            if peer.node is None:
                if hello := peer.channel.take(Hello):
                    self._hear(peer, hello.node)
            elif seen := peer.channel.take(Seen):
                peer.seen = seen
        except (NotANode, OtherProtocol) as error:
            self._refuse(peer, str(error))

    def _hear(self, peer: _Peer, node: Node) -> None:
        """A complete hello. What is wrong with it is wrong for all."""
        same = self._node if node.rank == 0 else None
        for other in list(self._peers.values()):
            if other.node is None or other.node.rank != node.rank:
                continue
            if other.node.mark == node.mark:  # the same launcher, over a new connection
                self._drop(other)
            else:
                same = other.node
        if same is not None:
            self._fail([twice((same, node))])
        elif node.rank >= self._terms.nodes:
            self._fail([_too_high(node, self._terms.nodes)])
        else:
            self._fail(disagreements(self._node, node))
            peer.node = node
            count = len(self._came()) + 1
            self._say(f"node {node.shown} has come: {count} of {self._terms.nodes}")
            return
        problems = [Said.of(problem) for problem in self._problems]
        self._send(peer, Verdict(nodes=[], problems=problems))
        self._drop(peer)

    def _fail(self, problems: list[Problem]) -> None:
        """It cannot end well: a little longer is waited, for others to come and hear so."""
        if problems:
            known = {problem.what for problem in self._problems}
            self._problems += [each for each in problems if each.what not in known]
            self._deadline = min(self._deadline, time.monotonic() + GRACE_S)

    def _gone(self, peer: _Peer) -> None:
        if peer.node is not None:
            self._say(f"node {peer.node.shown} went away again")
        elif peer.channel.first_bytes:
            self._tell_stranger(peer.address, f"it began with {peer.channel.first_bytes!r}")
        self._drop(peer)

    def _refuse(self, peer: _Peer, why: str) -> None:
        self._tell_stranger(peer.address, why)
        problem = Problem(f"node 0 took no notice of it: {why}", "", id="KVT-D704")
        self._send(peer, Verdict(nodes=[], problems=[Said.of(problem)]))
        self._drop(peer)

    def _drop_late(self) -> None:
        now = time.monotonic()
        for peer in list(self._peers.values()):
            if peer.node is None and now >= peer.deadline:
                self._tell_stranger(peer.address, f"it said nothing for {HELLO_S_MAX:g} s")
                self._drop(peer)

    def _tell_stranger(self, address: str, why: str) -> None:
        self._strangers += 1
        if self._strangers <= STRANGERS_TOLD:
            self._say(f"warning: {address} is no node of this cluster, and is ignored: {why}")
        if self._strangers == STRANGERS_TOLD:
            self._say("warning: further strangers are ignored without a word")

    def _send(self, peer: _Peer, message: Challenge | Look | Verdict) -> None:
        """A peer that has gone is noticed when it is read from."""
        with contextlib.suppress(OSError):
            peer.socket.sendall(peer.channel.pack(message))

    def _drop(self, peer: _Peer) -> None:
        fd = peer.socket.fileno()
        if self._peers.pop(fd, None) is not None:
            self._selector.unregister(peer.socket)
        peer.socket.close()

    def _listen(self) -> socket.socket:
        """At the address at which the others look for node 0, and no other. Raises ChecksFailed."""
        place = self._terms.place
        while True:
            try:
                found = addresses(self._terms.address, self._terms.port)
                break
            except OSError as error:
                # A name may come later, such as a pod's.
                if time.monotonic() >= self._deadline:
                    raise _no_address(self._terms.address, error) from error
                time.sleep(_RETRY_S)
        try:
            family, address = found[0]
            return socket.create_server(address, family=family, backlog=128)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                what = f"this is node 0, and {self._terms.address} is no address of this host"
                hint = "`cluster.master_address` is that of node 0; or this is another node"
            elif error.errno == errno.EADDRINUSE:
                what = f"port {self._terms.port} of {self._terms.address} is in use"
                hint = "`ss -ltnp` says by whom; set another `cluster.master_port` on all nodes"
            else:
                what, hint = f"cannot listen at {place}: {error.strerror}", ""
            raise ChecksFailed(
                [Problem(what, hint, "cluster.master_address", id="KVT-D702")]
            ) from error


def _too_high(node: Node, nodes: int) -> Problem:
    return Problem(
        f"{printable(node.host)} says that it is node {node.rank} of {nodes}",
        f"nodes are numbered from 0: the last is {nodes - 1}",
        "cluster.node_rank",
        id="KVT-D703",
    )


def _no_address(name: str, error: OSError) -> ChecksFailed:
    what = f"`{name}` does not resolve: {error.strerror}"
    hint = "`cluster.master_address` is an address of node 0, or a name that every node resolves"
    return ChecksFailed([Problem(what, hint, "cluster.master_address", id="KVT-D701")])
