"""Drives a ControlDesk over a FakeEngine, as the core's loop does."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from kvtier_engine.core.control import ControlDesk
from kvtier_engine.messages import Command, Control, ControlReply
from support.fake_engine import FakeEngine


@dataclass
class FakeControl:
    """Commands to an engine whose disk answers at once."""

    engine: FakeEngine
    replies: list[ControlReply] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.desk = ControlDesk(self.engine.scheduler, self.replies.append)
        self._names = map(str, itertools.count())

    def begin(self, command: Command) -> None:
        self.desk.take(Control(next(self._names), command))

    def go_on(self) -> None:
        """One round of the loop."""
        _, outputs = self.engine.engine.step()
        assert self.desk.sift(outputs) == []
        self.desk.go_on()
        self.engine.scheduler.check()

    def reply(self, command: Command, rounds_max: int = 200) -> ControlReply:
        """The one reply that the command gets; afterwards the engine is at rest."""
        before = len(self.replies)
        self.begin(command)
        store = self.engine.store
        for _ in range(rounds_max):
            self.go_on()
            while store is not None and store.open:
                store.end_one()
            if len(self.replies) > before:
                break
        self.engine.run()
        assert len(self.replies) == before + 1, self.replies
        return self.replies[-1]

    def ask(self, command: Command) -> dict[str, Any]:
        """The reply's values, of a command that is carried out."""
        reply = self.reply(command)
        assert (reply.refused, reply.failed) == (None, None)
        return reply.values
