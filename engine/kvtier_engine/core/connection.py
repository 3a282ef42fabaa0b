"""The core's end of the socket to the server."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import zmq

from kvtier_engine.messages import Outputs, ToCore, ToServer


class Connection:
    """Messages to and from the server, in order, never lost while both live."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
        self.socket = context.socket(zmq.PAIR)
        self.socket.sndhwm = 0  # bounded by the tokens of the requests in flight
        self.socket.rcvhwm = 0  # bounded by the server: max_queued + max_running requests
        self.socket.connect(address)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[ToCore] = msgspec.msgpack.Decoder(ToCore)

    def send(self, message: ToServer) -> None:
        self.socket.send(self._encoder.encode(message))

    def send_outputs(self, outputs: Outputs) -> None:
        if outputs.outputs:
            self.send(outputs)

    def receive(self) -> Iterable[ToCore]:
        """What has arrived; never waits."""
        while self.socket.poll(0):
            yield self._decoder.decode(self.socket.recv())
