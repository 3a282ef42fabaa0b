"""The core's loop, between sockets that nothing comes through."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import zmq
from support.fake_control import FakeControl
from support.fake_engine import FakeEngine, Sizes

from kvtier_engine.core.loop import Loop
from kvtier_engine.messages import Shutdown


@pytest.fixture
def socket() -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.PULL) as made:
        yield made


def told_to_stop(engine: FakeEngine, socket: zmq.Socket[bytes]) -> Loop:
    connection: Any = SimpleNamespace(socket=socket, receive=lambda: [Shutdown()], send=None)
    ranks: Any = SimpleNamespace(reports=socket)
    loop = Loop(connection, engine.engine, ranks, FakeControl(engine).changes)
    assert loop.run()
    return loop


def test_a_page_that_is_missing_at_the_end_is_told(
    socket: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine(Sizes(disk=False))
    engine.ask([1, 2, 3, 4, 5])
    assert told_to_stop(engine, socket).bookkeeping_errors == 0
    assert engine.pool.allocate(1) is not None  # and nobody gives it back
    assert told_to_stop(engine, socket).bookkeeping_errors == 1
    assert "pages are held, but nothing runs" in caplog.text
