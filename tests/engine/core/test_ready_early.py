"""The engine serves while L2 is still being populated, however long that takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import zmq
from support.engine_process import short_run_dir
from support.models import engine_config, random_prompt, small_llama

from kvtier_engine.core import host_memory
from kvtier_engine.core.__main__ import Start
from kvtier_engine.core.connection import Connection
from kvtier_engine.core.loop import Loop
from kvtier_engine.messages import (
    CachedTokens,
    Generate,
    Output,
    Outputs,
    Progress,
    SamplingParams,
    Shutdown,
    Stats,
    ToServer,
)
from kvtier_store import Arena

Message = TypeVar("Message")


class StalledArena:
    """An arena whose memory is never populated ahead: a slot gets it when it is touched."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.target_bytes = 0
        self.populated_bytes = 0

    @classmethod
    def open(cls, fd: int, **fields: Any) -> StalledArena:
        return cls(Arena.open(fd, **fields))

    def prefault(self, threads: int, slots: int) -> None:
        assert slots == self._arena.slots
        self.target_bytes = self._arena.mapped_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._arena, name)


class Client:
    """The server's end of the core's socket."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self.decoder = msgspec.msgpack.Decoder(ToServer)
        self.received: list[Any] = []

    def send(self, message: Any) -> None:
        self.socket.send(msgspec.msgpack.encode(message))

    def wait_for(self, kind: type[Message], fits: Callable[[Message], bool]) -> Message:
        while self.socket.poll(60_000):
            message = self.decoder.decode(self.socket.recv())
            self.received.append(message)
            if isinstance(message, kind) and fits(message):
                return message
        raise AssertionError(f"no such {kind.__name__} within a minute: {self.received}")

    def answer(self, name: str, prompt: list[int]) -> list[Output]:
        self.send(Generate(request_id=name, prompt_ids=prompt, params=SamplingParams(max_tokens=4)))
        before = len(self.received)
        self.wait_for(Outputs, lambda each: any(output.finish for output in each.outputs))
        new = self.received[before:]
        return [each for message in new if isinstance(message, Outputs) for each in message.outputs]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Of a core in a thread, whose arena is stalled."""
    monkeypatch.setattr(host_memory, "Arena", StalledArena)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with short_run_dir() as run_dir:
        config = engine_config(small_llama(tmp_path / "model"), run_dir)
        l2 = config.cache.l2.model_copy(update={"pages": 20_000})
        cache = config.cache.model_copy(update={"l2": l2})
        config = config.model_copy(update={"cache": cache})
        socket = context.socket(zmq.PAIR)
        socket.bind(f"ipc://{run_dir}/core")

        def serve() -> None:
            connection = Connection(context, f"ipc://{run_dir}/core")
            start = Start(config, run_dir / "engine.json", connection)
            engine, ranks, changes = start.build(context)
            connection.send(Progress("ready", 1, 1, ready=True))
            Loop(connection, engine, ranks, changes, start.memory).run()
            ranks.close()
            connection.socket.close()

        core = threading.Thread(target=serve, daemon=True)
        core.start()
        made = Client(socket)
        yield made
        made.send(Shutdown())
        core.join(timeout=60)
        assert not core.is_alive()
        context.destroy(linger=0)


def test_the_engine_answers_before_the_arena_is_populated(client: Client) -> None:
    client.wait_for(Progress, lambda progress: progress.ready)
    stages = [each for each in client.received if isinstance(each, Progress)]
    assert {(each.done, each.total > 400 << 20) for each in stages if each.stage == "l2"} == {
        (0, True)
    }
    prompt = random_prompt(40)
    first = client.answer("a", prompt)
    assert sum(len(output.token_ids) for output in first) == 4
    assert client.answer("b", prompt)[0].cached == CachedTokens(l1=32)
    stats = client.wait_for(Stats, lambda stats: stats.gauges['pages_held{tier="l2"}'] > 0)
    assert stats.gauges["l2_populated_bytes"] == 0
    assert stats.gauges["l2_target_bytes"] > 400 << 20
    assert stats.gauges["l2_populating_failed"] == 0
    assert sum(name.startswith("l2_backing{") for name in stats.gauges) == 1
