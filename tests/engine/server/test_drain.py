"""The end of a server: what runs may finish, what is new is turned away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.fake_core import Script
from support.server_thread import Running, running_server

from kvtier_engine.messages import FinishReason, Output, Outputs, Shutdown

COMPLETIONS = "/v1/completions"


class OpenStream:
    """A streaming request whose answer the test ends, read by a thread of its own."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self.events: list[dict] = []
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        server.core.wait_for(lambda seen: bool(server.core.requests))

    def finish(self) -> None:
        """The core computes the last token."""
        name = self._server.core.requests[0].request_id
        last = Output(request_id=name, token_ids=[42], finish=FinishReason.LENGTH)
        self._server.core.send(Outputs([last]))

    def _read(self) -> None:
        body = {"prompt": [5], "max_tokens": 9, "stream": True}
        with httpx.stream(
            "POST", f"{self._server.thread.url}{COMPLETIONS}", json=body, timeout=20
        ) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    self.events.append(json.loads(line[6:]))
        self.ended.set()

    def join(self) -> None:
        self._thread.join(20)
        assert self.ended.is_set(), "the stream was cut off"


@contextmanager
def open_stream(tiny_model: Path, **changes: object) -> Iterator[tuple[Running, OpenStream]]:
    with running_server(tiny_model, **changes) as server:
        server.core.script = Script(tokens=[40], ends=False)
        stream = OpenStream(server)
        yield server, stream
        stream.join()


def wait_draining(server: Running) -> None:
    server.wait(lambda: server.client.get("/ready").json()["status"] == "draining", "draining")


def test_what_runs_finishes_and_what_is_new_is_turned_away(tiny_model: Path) -> None:
    with open_stream(tiny_model) as (server, stream):
        server.thread.interrupt()
        wait_draining(server)
        assert server.client.get("/ready").status_code == 503
        assert server.client.get("/health").status_code == 200
        refused = server.post(COMPLETIONS, {"prompt": "x"})
        assert refused.status_code == 503
        assert "shutting down" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) > 0
        assert not any(isinstance(message, Shutdown) for message in server.core.received)
        stream.finish()
        assert server.thread.join() == 0
        stream.join()
        assert stream.events[-1]["choices"][0]["finish_reason"] == "length"
        assert isinstance(server.core.received[-1], Shutdown)


@pytest.mark.parametrize("hurry", [True, False], ids=["second signal", "drain_s over"])
def test_what_does_not_finish_gets_an_error(tiny_model: Path, hurry: bool) -> None:
    with open_stream(tiny_model, server__drain_s=20 if hurry else 0.05) as (server, stream):
        server.thread.interrupt()
        if hurry:
            wait_draining(server)
            server.thread.interrupt()
        assert server.thread.join() == 0
        stream.join()
        assert "shut down" in stream.events[-1]["error"]["message"]
        server.core.wait_for(lambda seen: bool(server.core.aborted))


@pytest.mark.parametrize("draining", [False, True])
def test_a_dying_core_is_an_error_for_the_open_requests(tiny_model: Path, caplog, draining) -> None:
    with open_stream(tiny_model) as (server, stream):
        if draining:
            server.thread.interrupt()
            wait_draining(server)
        server.thread.end_core(-9)
        assert server.thread.join() == 1
        stream.join()
        assert "core process ended" in stream.events[-1]["error"]["message"]
        assert "signal SIGKILL" in caplog.text


def test_a_core_that_ends_badly_when_told_to_stop(tiny_model: Path) -> None:
    with running_server(tiny_model) as server:
        server.core.on_shutdown = lambda: server.thread.end_core(3)
        server.thread.interrupt()
        assert server.thread.join() == 1


def test_a_third_signal_does_not_wait_for_the_core(tiny_model: Path) -> None:
    with running_server(tiny_model) as server:
        server.core.on_shutdown = None
        for _ in range(3):
            server.thread.interrupt()
        assert server.thread.join() == 1
        assert server.thread.process.killed


def test_stop_before_the_start_is_complete(tiny_model: Path) -> None:
    with running_server(tiny_model, ready=False) as server:
        server.core.on_shutdown = None  # it loads, and does not listen
        server.thread.interrupt()
        assert server.thread.join() == 0
