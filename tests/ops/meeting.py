"""Nodes that meet: as threads of one process, each with its own terms."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ops.launched import free_port
from support.engine_process import wait_for

from kvtier_ops.cluster.meet import Meeting, meet
from kvtier_ops.cluster.shared import Directories
from kvtier_ops.cluster.terms import Terms
from kvtier_ops.cluster.wire import Node
from kvtier_ops.errors import KvtierError

NOWHERE = Directories((), ())
JOIN_S = 60.0


def node(rank: int, **changes: Any) -> Node:
    values: dict[str, Any] = {
        "rank": rank,
        "host": f"host-{rank}",
        "versions": {"kvtier": "1.0", "torch": "2.13"},
        "profile": {"tiers.l2.size": "4GiB"},
        "model": "abcd",
        "l3": [],
        "mark": secrets.token_hex(16),
    }
    return Node(**{**values, **changes})


def terms(nodes: int, **changes: Any) -> Terms:
    made = Terms(nodes, "127.0.0.1", free_port(), timeout_s=30, directories=NOWHERE)
    return replace(made, **changes)


@dataclass
class Part:
    """One node's part in a meeting."""

    node: Node
    terms: Terms
    said: list[str] = field(default_factory=list)
    meeting: Meeting | None = None
    error: BaseException | None = None
    thread: threading.Thread | None = None

    def start(self) -> Part:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def _run(self) -> None:
        try:
            self.meeting = meet(self.node, self.terms, self.said.append)
        except BaseException as error:
            self.error = error

    def end(self) -> Part:
        assert self.thread is not None
        self.thread.join(JOIN_S)
        assert not self.thread.is_alive(), self.said
        if self.error is not None and not isinstance(self.error, KvtierError):
            raise self.error
        return self

    def wait_said(self, text: str) -> None:
        wait_for(lambda: any(text in line for line in self.said), text)

    @property
    def problems(self) -> list[str]:
        """What this node's operator is told."""
        assert isinstance(self.error, KvtierError), self.meeting
        return [f"{problem.id}: {problem.what}" for problem in self.error.problems]


def run_all(nodes: Sequence[Node], common: Terms) -> list[Part]:
    """All at once; their parts, in this order."""
    parts = [Part(each, common).start() for each in nodes]
    return [part.end() for part in parts]


def with_directories(common: Terms, l3: Sequence[Path] = (), shared: Sequence[Path] = ()) -> Terms:
    return replace(common, directories=Directories(tuple(l3), tuple(shared)))


def stranger(common: Terms, talk: Callable[[socket.socket], None]) -> None:
    """Somebody at the port of node 0 who is no node."""
    with socket.create_connection((common.address, common.port), timeout=10) as connection:
        talk(connection)
