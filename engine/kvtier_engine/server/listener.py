"""The listening socket and the file that tells its address."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

from kvtier_engine.config import ServerConfig

BACKLOG = 2048


class ListenError(Exception):
    """The address cannot be listened on; `hint` says the way out."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def listen(server: ServerConfig) -> socket.socket:
    """Binds and listens: from here on clients can connect. Raises ListenError."""
    host, port = server.host, server.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ListenError(
            f"`server.host` `{host}` is no address of this machine: {error.strerror}",
            "127.0.0.1 serves this machine only, 0.0.0.0 everybody who can reach it",
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _listen_error(host, port, error) from error
    return listener


def _listen_error(host: str, port: int, error: OSError) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        return ListenError(
            f"{host}:{port} is in use by another process",
            f"`ss -ltnp 'sport = :{port}'` shows which; stop it, or set another `server.port` "
            "(0 takes any free one)",
        )
    if error.errno == errno.EACCES:
        return ListenError(
            f"{host}:{port} may not be bound: {error.strerror}",
            "ports below 1024 need rights: set `server.port` to 1024 or more",
        )
    return ListenError(
        f"{host}:{port} cannot be bound: {error.strerror}",
        "set `server.host` to an address of this machine",
    )


class AddressFile:
    """`run_dir/address`: {"host", "port", "pid"}, there while the server listens."""

    def __init__(self, run_dir: Path, listener: socket.socket) -> None:
        self._path = run_dir / "address"
        self.host, self.port = listener.getsockname()[:2]

    def write(self) -> None:
        """Appears whole or not at all."""
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps({"host": self.host, "port": self.port, "pid": os.getpid()}))
        draft.replace(self._path)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
