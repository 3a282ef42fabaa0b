"""A core without a model: it speaks the core's side of the socket and follows a script.

In a thread (`FakeCore`) for tests of the API, or as a process (`python fake_core.py
--socket ... --parent-pid ...`) for tests of the server's life.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import zmq

from kvtier_engine.messages import (
    Abort,
    CachedTokens,
    Command,
    Control,
    ControlReply,
    Failed,
    FinishReason,
    Generate,
    Output,
    Outputs,
    Progress,
    Shutdown,
    ToCore,
    TokenLogprob,
    ToServer,
)
from kvtier_engine.process import die_with_parent

POLL_MS = 1000


@dataclass
class Script:
    """How the core answers a request: the tokens, how many at a time, and how it ends."""

    tokens: list[int] | None = None  # None: the prompt's own, again and again
    per_output: int = 1
    stop_token: int | None = None  # ends the answer with this id
    ends: bool = True  # False: the answer stays open after its tokens
    error: str | None = None  # fails with this
    cached: CachedTokens = field(default_factory=CachedTokens)
    pin_refused: str | None = None


@dataclass
class FakeCore:
    """Answers every Generate by `script`, or what `choose` returns for it."""

    endpoint: str
    script: Script = field(default_factory=Script)
    choose: Callable[[Generate], Script] | None = None
    reply: Callable[[Control], ControlReply | None] | None = None  # none: empty values
    on_shutdown: Callable[[], None] | None = None
    received: list[ToCore] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._context = zmq.Context()
        self._control = self._context.socket(zmq.PAIR)
        self._control.bind("inproc://control")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, message: ToServer) -> None:
        """Sends a message out of the script. Any thread, one at a time."""
        self._control.send(msgspec.msgpack.encode(message))

    def be_ready(self) -> None:
        self.send(Progress("model", 100, 100))
        self.send(Progress("ready", 1, 1, ready=True))

    def answer_again(self, request: Generate) -> None:
        """Sends the script's outputs for `request` once more."""
        for output in answer(request, self.script):
            self.send(Outputs([output]))

    def wait_for(self, seen: Callable[[list[ToCore]], bool], timeout_s: float = 10) -> None:
        """Waits until the messages received so far satisfy `seen`."""
        with self._changed:
            found = self._changed.wait_for(lambda: seen(self.received), timeout_s)
        assert found, f"the core never saw it; it saw {self.received}"

    @property
    def requests(self) -> list[Generate]:
        return [message for message in self.received if isinstance(message, Generate)]

    @property
    def commands(self) -> list[Command]:
        return [message.command for message in self.received if isinstance(message, Control)]

    @property
    def aborted(self) -> list[str]:
        aborts = [message for message in self.received if isinstance(message, Abort)]
        return [request_id for abort in aborts for request_id in abort.request_ids]

    def close(self) -> None:
        self._control.send(b"")
        self._thread.join()
        self._control.close()
        self._context.term()

    def _run(self) -> None:
        control = self._context.socket(zmq.PAIR)
        control.connect("inproc://control")
        socket = self._context.socket(zmq.PAIR)
        socket.set(zmq.LINGER, 1000)  # ms for the last words to reach the server
        socket.connect(self.endpoint)
        poller = zmq.Poller()
        poller.register(control, zmq.POLLIN)
        poller.register(socket, zmq.POLLIN)
        decoder = msgspec.msgpack.Decoder(ToCore)
        while True:
            ready = dict(poller.poll(POLL_MS))
            if control in ready:
                raw = control.recv()
                if not raw:
                    break
                socket.send(raw)
            if socket in ready:
                self._take(socket, decoder.decode(socket.recv()))
        control.close()
        socket.close()

    def _take(self, socket: zmq.Socket[bytes], message: ToCore) -> None:
        with self._changed:
            self.received.append(message)
            self._changed.notify_all()
        if isinstance(message, Shutdown) and self.on_shutdown is not None:
            self.on_shutdown()
        if isinstance(message, Control):
            empty = ControlReply(request_id=message.request_id)
            reply = self.reply(message) if self.reply is not None else empty
            if reply is not None:
                socket.send(msgspec.msgpack.encode(reply))
        if isinstance(message, Generate):
            script = self.choose(message) if self.choose is not None else self.script
            for output in answer(message, script):
                socket.send(msgspec.msgpack.encode(Outputs([output])))


def answer(request: Generate, script: Script) -> list[Output]:
    """The outputs that `script` gives for `request`."""
    name = request.request_id
    if script.error is not None:
        return [Output(request_id=name, finish=FinishReason.FAILED, error=script.error)]
    tokens = script.tokens
    if tokens is None:
        rounds = request.params.max_tokens // len(request.prompt_ids) + 1
        tokens = (request.prompt_ids * rounds)[: request.params.max_tokens]
    tokens = tokens[: request.params.max_tokens]
    if script.stop_token is not None:
        tokens = [*tokens, script.stop_token]
    outputs = []
    for start in range(0, len(tokens), script.per_output):
        chunk = tokens[start : start + script.per_output]
        is_last = script.ends and start + script.per_output >= len(tokens)
        finish = FinishReason.LENGTH if script.stop_token is None else FinishReason.STOP
        outputs.append(
            Output(
                request_id=name,
                token_ids=chunk,
                logprobs=_logprobs(chunk, request.params.logprobs),
                cached=script.cached if start == 0 else None,
                pin_refused=script.pin_refused if start == 0 else None,
                finish=finish if is_last else None,
                stop_token=script.stop_token if is_last else None,
            )
        )
    return outputs


def _logprobs(tokens: list[int], top: int | None) -> list[TokenLogprob] | None:
    if top is None:
        return None
    return [
        TokenLogprob(token, -0.5, [(token + rank, -0.5 - rank) for rank in range(top)])
        for token in tokens
    ]


def main() -> int:
    """As a process: ends at once with status 7 (`exit`), says that it cannot go on (`fail`),
    or is ready at once and echoes until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--behaviour", default="echo")
    parser.add_argument("--parent-pid", type=int, required=True)
    options = parser.parse_args()
    die_with_parent(options.parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if options.behaviour == "exit":
        return 7
    core = FakeCore(options.socket)
    if options.behaviour == "fail":
        core.send(Failed("the weights are gone", "put them back"))
        core.close()
        return 1
    core.be_ready()
    core.wait_for(lambda seen: any(isinstance(each, Shutdown) for each in seen), 60)
    core.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
