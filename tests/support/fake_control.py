"""Drives a ControlDesk over a FakeEngine, as the core's loop does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from kvtier_engine.core.background import Background
from kvtier_engine.core.change import RunInBackground
from kvtier_engine.core.control import ControlDesk
from kvtier_engine.core.disk import DiskUnavailable, OpenDisk
from kvtier_engine.core.disk_changes import DiskChanges
from kvtier_engine.core.memory_changes import MemoryChanges
from kvtier_engine.core.tier_changes import TierChanges
from kvtier_engine.kv.disk import DiskTier
from kvtier_engine.kv.save import SaveRules
from kvtier_engine.messages import Command, Control, ControlReply
from support.engine_process import wait_for
from support.fake_engine import PAGE_TOKENS, FakeEngine, Sizes
from support.fake_tiers import FakeArena


class AtOnce(Background[Any]):
    """A thread that is quick."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(work)
        self._thread.join()


TOO_SMALL = 1  # as the store finds when it opens


class FakeOpener:
    """Opens the engine's one store, which keeps its pages; sizes are pages."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.directories = ["a"] if engine.store is not None else []
        self.capacities = [100]
        self.error = ""  # why it cannot be opened

    def capacities_for(self, total_bytes: int) -> list[int]:
        if not total_bytes:
            raise DiskUnavailable("too few")
        return [total_bytes]

    def open(self, l2_slots: int, capacities: list[int] | None = None) -> OpenDisk:
        if self.error or capacities == [TOO_SMALL]:
            raise DiskUnavailable(self.error or "too small")
        self.capacities = capacities or self.capacities
        disk = DiskTier(cast("Any", self._engine.store))
        return OpenDisk(disk, SaveRules(self._engine.sizes.write))


@dataclass
class FakeMemory:
    """The host's memory has room for all slots, unless the test says why not."""

    arena: FakeArena | None
    reason: str | None = None
    page_bytes: int = 1

    def why_not(self, slots: int) -> str | None:
        return self.reason

    @property
    def demand(self) -> FakeMemory:
        return self

    def slots_in(self, size_bytes: int) -> int:
        return size_bytes // self.page_bytes

    def bytes(self, slots: int) -> int:
        return slots * self.page_bytes


def fake_config(sizes: Sizes) -> SimpleNamespace:
    """A page has one byte."""
    tokens = sizes.max_context_tokens or sizes.l1 * PAGE_TOKENS
    return SimpleNamespace(
        cache=SimpleNamespace(page_bytes=1, page_tokens=PAGE_TOKENS),
        scheduler=SimpleNamespace(max_context_tokens=tokens),
        parallel=SimpleNamespace(threads_per_rank=1),
        device="cpu",
    )


@dataclass
class FakeControl:
    """Commands to an engine whose disk answers at once."""

    engine: FakeEngine
    replies: list[ControlReply] = field(default_factory=list)
    in_background: RunInBackground = Background

    def __post_init__(self) -> None:
        engine = self.engine
        self.opener = FakeOpener(engine)
        self.memory = FakeMemory(engine.arena)
        clock = lambda: engine.now  # noqa: E731
        self.memory_changes = MemoryChanges(
            engine.engine,
            cast("Any", self.memory) if engine.arena is not None else None,
            cast("Any", fake_config(engine.sizes)),
            clock,
            self.in_background,
        )
        self.changes = TierChanges(
            self.memory_changes,
            DiskChanges(engine.manager, cast("Any", self.opener), clock, self.in_background),
        )
        self.desk = ControlDesk(engine.scheduler, self.changes, self.replies.append)
        self._names = map(str, itertools.count())

    def begin(self, command: Command) -> None:
        self._last = next(self._names)
        self.desk.take(Control(self._last, command))

    def go_on(self) -> None:
        """One round of the loop."""
        busy, outputs = self.engine.engine.step()
        if not busy:
            self.engine.ranks.settle()
        self.engine.take(self.desk.sift(outputs))
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

    def change(self, command: Command) -> ControlReply:
        """As `reply`, of a change of tiers, parts of which run in threads."""
        self.begin(command)
        return self.finish()

    def finish(self) -> ControlReply:
        """The reply to the last command; the disk answers at once, and time passes."""
        name = self._last
        if not any(self.go_on_until(name) for _ in range(50)):  # a thread may be slower
            wait_for(lambda: self.go_on_until(name), f"the answer to command {name}")
        return next(reply for reply in self.replies if reply.request_id == name)

    def go_on_until(self, name: str) -> bool:
        self.go_on()
        self.engine.now += 0.1
        store = self.engine.store
        while store is not None and store.open:
            store.end_one()
        return any(reply.request_id == name for reply in self.replies)

    def ask(self, command: Command) -> dict[str, Any]:
        """The reply's values, of a command that is carried out."""
        reply = self.reply(command)
        assert (reply.refused, reply.failed) == (None, None)
        return reply.values
