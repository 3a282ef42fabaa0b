"""The server's end of the socket to the core.

Back-pressure: neither side ever waits for the other. To the core, at most `slots`
requests are on their way or being computed (then 429), so the queue of outgoing messages
is bounded by admission. From the core, messages are taken as they come and put into the
mailbox of the HTTP request that they belong to; a client that reads slowly finds
everything that piled up in one go, and its mailbox holds no more than its answers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import zmq
import zmq.asyncio

from kvtier_engine.messages import (
    Abort,
    Command,
    Control,
    ControlReply,
    Failed,
    Generate,
    Output,
    Outputs,
    Progress,
    Shutdown,
    Stats,
    ToCore,
    ToServer,
)
from kvtier_engine.server.errors import ApiError, BadRequest, TooManyRequests

log = logging.getLogger(__name__)

RETRY_AFTER_MAX_S = 60
ENDINGS_REMEMBERED = 64  # over which the rate of endings is taken
COMMANDS_MAX = 16  # of the operator, at the same time

Event = Progress | Stats | Failed


class Exchange:
    """The sequences of one HTTP request, from admission to their end. Close it always."""

    def __init__(self, client: CoreClient, slots: int) -> None:
        self._client = client
        self._unused = slots  # admitted, not sent yet
        self._open: set[str] = set()
        self._mailbox: list[Output] = []
        self._mail = asyncio.Event()
        self._error: ApiError | None = None

    def send(self, requests: Sequence[Generate]) -> None:
        """Gives the core all requests of the exchange at once."""
        assert len(requests) == self._unused, (
            "sequences were admitted and not sent, or not admitted"
        )
        self._unused = 0
        for request in requests:
            self._open.add(request.request_id)
            self._client._route(request.request_id, self)
            self._client._post(request)

    async def receive(self) -> list[Output]:
        """All outputs that came since the last call, in order; waits for at least one.
        Raises the ApiError that the exchange was ended with."""
        await self._mail.wait()
        self._mail.clear()
        if self._error is not None:
            raise self._error
        outputs, self._mailbox = self._mailbox, []
        return outputs

    def abort(self, request_id: str) -> None:
        """Ends one sequence whose answer is complete before the core knows."""
        if request_id in self._open:
            self._open.discard(request_id)
            self._client._forget([request_id])
            self._client._post(Abort([request_id]))

    def close(self) -> None:
        """Aborts whatever has not ended and gives the slots back. May be called twice."""
        open_ids = sorted(self._open)
        self._open.clear()
        self._client._forget(open_ids)
        if open_ids:
            self._client._post(Abort(open_ids))
        self._client._give_back(self._unused)
        self._unused = 0
        self._client._exchanges.discard(self)

    def fail(self, error: ApiError) -> None:
        """Makes `receive` raise."""
        self._error = error
        self._mail.set()

    def _deliver(self, output: Output) -> None:
        if output.finish is not None:
            self._open.discard(output.request_id)
        self._mailbox.append(output)
        self._mail.set()


class CoreClient:
    """Owns the PAIR socket: binds it, so that the core can come and go behind it."""

    def __init__(self, endpoint: str, slots: int, on_event: Callable[[Event], None]) -> None:
        """`slots`: sequences in flight at most. `on_event`: what concerns no request."""
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set_hwm(0)  # bounded by `slots`, see above
        self._socket.bind(endpoint)
        self._slots = slots
        self._used = 0
        self._on_event = on_event
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._routes: dict[str, Exchange] = {}
        self._exchanges: set[Exchange] = set()
        self._commands: dict[str, asyncio.Future[ControlReply]] = {}
        self._endings: deque[float] = deque(maxlen=ENDINGS_REMEMBERED)
        self._idle = asyncio.Event()
        self._idle.set()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(ToServer)

    @property
    def in_flight(self) -> int:
        """Sequences admitted and not ended."""
        return self._used

    async def idle(self) -> None:
        """Waits until nothing is in flight."""
        await self._idle.wait()

    async def run(self) -> None:
        """Moves messages until cancelled. Raises msgspec.DecodeError if the core talks
        nonsense, which only a bug can make it do."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._write())

    def exchange(self, sequences: int) -> Exchange:
        """Admits `sequences` at once, or none: raises TooManyRequests."""
        if sequences > self._slots:
            raise BadRequest(
                f"the request asks for {sequences} answers at once (prompts times `n`); "
                f"this server computes and queues at most {self._slots}: split the request"
            )
        if self._used + sequences > self._slots:
            raise TooManyRequests(
                f"the queue is full: {self._used} requests are in flight, at most {self._slots} "
                "may be; try again later",
                self._retry_after_s(self._used + sequences - self._slots),
            )
        self._used += sequences
        self._idle.clear()
        exchange = Exchange(self, sequences)
        self._exchanges.add(exchange)
        return exchange

    async def control(self, name: str, command: Command) -> ControlReply:
        """Has the core carry out an operator's command. `name` must be unique. Raises the ApiError
        that `fail_all` was told, or TooManyRequests."""
        if len(self._commands) >= COMMANDS_MAX:
            raise TooManyRequests(f"{COMMANDS_MAX} commands are under way; try again later", 1)
        reply: asyncio.Future[ControlReply] = asyncio.get_running_loop().create_future()
        self._commands[name] = reply
        try:
            self._post(Control(name, command))
            return await reply
        finally:
            del self._commands[name]

    def fail_all(self, error: ApiError) -> None:
        """Ends every exchange and command: what waits for outputs, now or later, gets `error`."""
        for reply in self._commands.values():
            if not reply.done():
                reply.set_exception(error)
        for exchange in self._exchanges:
            exchange.fail(error)

    def shutdown(self) -> None:
        self._post(Shutdown())

    def close(self) -> None:
        self._socket.close()
        self._context.term()

    async def _read(self) -> None:
        while True:
            message = self._decoder.decode(await self._socket.recv())
            if isinstance(message, Outputs):
                for output in message.outputs:
                    self._deliver(output)
            elif isinstance(message, ControlReply):
                reply = self._commands.get(message.request_id)
                if reply is not None and not reply.done():  # whoever asked may have gone
                    reply.set_result(message)
            else:
                self._on_event(message)

    async def _write(self) -> None:
        while True:
            await self._socket.send(await self._outgoing.get())

    def _deliver(self, output: Output) -> None:
        """Outputs of a sequence that was aborted may still arrive: they go nowhere."""
        exchange = self._routes.get(output.request_id)
        if exchange is None:
            return
        if output.finish is not None:
            self._forget([output.request_id])
        exchange._deliver(output)

    def _post(self, message: ToCore) -> None:
        self._outgoing.put_nowait(self._encoder.encode(message))

    def _route(self, request_id: str, exchange: Exchange) -> None:
        assert request_id not in self._routes, "a request id was used twice"
        self._routes[request_id] = exchange

    def _forget(self, request_ids: Sequence[str]) -> None:
        for request_id in request_ids:
            del self._routes[request_id]
        self._give_back(len(request_ids))

    def _give_back(self, slots: int) -> None:
        self._used -= slots
        assert self._used >= 0, "a slot was given back twice"
        if self._used == 0:
            self._idle.set()
        self._endings.extend([time.monotonic()] * slots)

    def _retry_after_s(self, needed: int) -> int:
        """When `needed` slots will be free if sequences go on ending as fast as lately."""
        elapsed_s = time.monotonic() - self._endings[0] if self._endings else 0.0
        return retry_after_s(needed, len(self._endings), elapsed_s)


def retry_after_s(needed: int, endings: int, elapsed_s: float) -> int:
    """Seconds until `needed` sequences have ended, if `endings` did in `elapsed_s`."""
    if endings == 0:
        return RETRY_AFTER_MAX_S
    return min(max(math.ceil(needed * elapsed_s / endings), 1), RETRY_AFTER_MAX_S)
