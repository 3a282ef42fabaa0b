"""Bounds: the size of a body, the length of the queue, clients that go away."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.fake_core import Script
from support.server_thread import Running, running_server

from kvtier_engine.messages import Generate
from kvtier_engine.server.core_client import retry_after_s

COMPLETIONS = "/v1/completions"
MIB = 1 << 20


class TestBody:
    def test_one_byte_more_than_allowed(self, server: Running) -> None:
        def body(size: int) -> bytes:
            start = b'{"prompt": [5], "zzz": "'
            return start + b"x" * (size - len(start) - 2) + b'"}'

        assert server.client.post(COMPLETIONS, content=body(MIB)).status_code == 200
        response = server.client.post(COMPLETIONS, content=body(MIB + 1))
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"
        assert str(MIB) in response.json()["error"]["message"]

    def test_length_not_announced(self, server: Running) -> None:
        def chunks() -> Iterator[bytes]:
            for _ in range(40):
                yield b"x" * 65536

        response = server.client.post(COMPLETIONS, content=chunks())
        assert response.request.headers["transfer-encoding"] == "chunked"
        assert response.status_code == 413

    def test_client_that_sends_all_before_it_reads(self, server: Running) -> None:
        """Most do. It must not see a reset connection instead of the answer."""
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nContent-Length: {MIB * 7}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.thread.port), 10) as connection:
            connection.sendall(head.encode())
            for _ in range(7):
                connection.sendall(b"x" * MIB)
            assert connection.recv(100).startswith(b"HTTP/1.1 413")

    def test_client_that_asks_first_need_not_send(self, server: Running) -> None:
        head = (
            f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nContent-Length: {MIB * 100}\r\n"
            "Expect: 100-continue\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.thread.port), 10) as connection:
            connection.sendall(head.encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 413")


class TestDisconnect:
    """Whatever the request was waiting for, every sequence of it is aborted."""

    @pytest.fixture(autouse=True)
    def _endless(self, server: Running) -> None:
        server.core.script = Script(tokens=[40, 41], ends=False)

    def send(self, server: Running, **fields: object) -> socket.socket:
        body = json.dumps({"prompt": [5], "max_tokens": 99, **fields}).encode()
        connection = socket.create_connection(("127.0.0.1", server.thread.port), 10)
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        return connection

    @pytest.mark.parametrize("stream", [True, False])
    def test_all_sequences_are_aborted(self, server: Running, stream: bool) -> None:
        cancelled = server.metric("requests_cancelled_total")
        with self.send(server, n=3, stream=stream):
            server.core.wait_for(lambda seen: len(server.core.requests) == 3)
            assert server.metric("requests_in_flight") == 3
        server.core.wait_for(lambda seen: len(server.core.aborted) == 3)
        assert sorted(server.core.aborted) == sorted(r.request_id for r in server.core.requests)
        server.wait_idle()
        assert server.metric("requests_cancelled_total") == cancelled + 1

    def test_ended_sequences_are_not_aborted(self, server: Running) -> None:
        def by_place(request: Generate) -> Script:
            return Script(tokens=[40], ends=request.request_id.endswith("-0"))

        server.core.choose = by_place
        with self.send(server, n=2, stream=True) as connection:
            received = b""
            while received.count(b'"text"') < 2:
                received += connection.recv(65536)
        server.core.wait_for(lambda seen: bool(server.core.aborted))
        assert [name[-2:] for name in server.core.aborted] == ["-1"]

    def test_a_stop_string_ends_its_sequence_at_once(self, server: Running, tokenizer) -> None:
        """Not only when the other answers of the request have ended too."""
        ids = tokenizer.encode("go on. STOP", special=False)

        def by_place(request: Generate) -> Script:
            return Script(tokens=ids if request.request_id.endswith("-0") else [40], ends=False)

        server.core.choose = by_place
        with self.send(server, n=2, stop=" STOP"):
            server.core.wait_for(lambda seen: bool(server.core.aborted))
            assert [name[-2:] for name in server.core.aborted] == ["-0"]
            server.wait(lambda: server.metric("requests_in_flight") == 1, "its place to be free")

    def test_late_outputs_of_an_aborted_sequence_go_nowhere(self, server: Running) -> None:
        with self.send(server):
            server.core.wait_for(lambda seen: bool(server.core.requests))
        server.core.wait_for(lambda seen: bool(server.core.aborted))
        server.core.script = Script(tokens=[42])
        server.core.answer_again(server.core.requests[0])
        assert server.post(COMPLETIONS, {"prompt": [5], "max_tokens": 1}).status_code == 200

    def test_while_the_prompt_is_tokenized(self, server: Running, monkeypatch) -> None:
        import threading

        entered, go_on = threading.Event(), threading.Event()
        tokenizer = server.thread.server._service.tokenizer

        def slow(text: str, *, special: bool) -> list[int]:
            entered.set()
            go_on.wait(10)
            return [5]

        monkeypatch.setattr(tokenizer, "encode", slow)
        with self.send(server, prompt="text"):
            assert entered.wait(10)
        server.wait_idle()
        go_on.set()
        assert server.core.requests == []


class TestQueue:
    @pytest.fixture
    def small(self, tiny_model: Path) -> Iterator[Running]:
        with running_server(
            tiny_model, scheduler__max_running=2, scheduler__max_queued=1
        ) as running:
            yield running

    def test_full_queue_is_a_429_and_gets_room_again(self, small: Running) -> None:
        small.core.script = Script(tokens=[40], ends=False)
        body = {"prompt": [5], "n": 3, "stream": True, "max_tokens": 9}
        with small.client.stream("POST", COMPLETIONS, json=body):
            small.core.wait_for(lambda seen: len(small.core.requests) == 3)
            response = small.post(COMPLETIONS, {"prompt": [5]})
            assert response.status_code == 429
            assert response.json()["error"]["code"] == "queue_full"
            assert 1 <= int(response.headers["retry-after"]) <= 60
            with httpx.Client(base_url=small.thread.url) as other:
                assert other.get("/ready").status_code == 200, "full is not unready"
        small.wait_idle()
        small.core.script = Script(tokens=[40])
        assert small.post(COMPLETIONS, {"prompt": [5]}).status_code == 200

    def test_all_or_none_of_a_request_is_admitted(self, small: Running) -> None:
        small.core.script = Script(tokens=[40], ends=False)
        body = {"prompt": [5], "n": 2, "stream": True, "max_tokens": 9}
        with small.client.stream("POST", COMPLETIONS, json=body):
            small.core.wait_for(lambda seen: len(small.core.requests) == 2)
            assert small.post(COMPLETIONS, {"prompt": [5], "n": 2}).status_code == 429
            assert small.metric("requests_in_flight") == 2

    def test_a_refused_request_gives_its_places_back(self, small: Running) -> None:
        for _ in range(5):
            assert small.post(COMPLETIONS, {"prompt": [999], "n": 3}).status_code == 400
        assert small.metric("requests_in_flight") == 0


@pytest.mark.parametrize(
    ("needed", "endings", "elapsed_s", "expected"),
    [
        (3, 0, 0.0, 60),  # nothing has ended yet: who knows
        (1, 64, 0.1, 1),  # quick: not less than a second
        (3, 4, 8.0, 6),
        (1, 3, 10.0, 4),  # rounded up
        (5, 1, 1000.0, 60),
    ],
)
def test_retry_after_follows_the_rate_of_endings(needed, endings, elapsed_s, expected) -> None:
    assert retry_after_s(needed, endings, elapsed_s) == expected


def test_a_slow_reader_gets_everything_in_the_end(server: Running) -> None:
    """The core is never held up: its outputs wait, and come together."""
    server.core.script = Script(tokens=[40, 41] * 100)
    body = {"prompt": [5], "max_tokens": 200, "n": 20, "stream": True}
    with server.client.stream("POST", COMPLETIONS, json=body) as response:
        server.core.wait_for(lambda seen: len(server.core.requests) == 20)
        other = httpx.post(f"{server.thread.url}{COMPLETIONS}", json={"prompt": [5]})
        assert other.status_code == 200
        events = [line for line in response.iter_lines() if line.startswith("data: {")]
    choices = [json.loads(event[6:])["choices"][0] for event in events]
    text = "".join(choice["text"] for choice in choices if choice["index"] == 0)
    tokenizer = server.thread.server._service.tokenizer
    assert text == tokenizer.decode([40, 41] * 100)
    assert sum(choice["finish_reason"] == "length" for choice in choices) == 20
