"""The engine: `python -P -m kvtier_engine --config FILE [--parent-pid PID]`.

Exit status: 0 stopped as asked, 1 failed, 2 the configuration is wrong, 3 the address
cannot be listened on.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
from pathlib import Path

from pydantic import ValidationError

from kvtier_engine.config import EngineConfig, load_config
from kvtier_engine.log import set_up_logging
from kvtier_engine.process import die_with_parent
from kvtier_engine.server.auth import BadSecret, Keys
from kvtier_engine.server.core_process import CoreProcess
from kvtier_engine.server.listener import AddressFile, ListenError, listen
from kvtier_engine.server.serve import Server

log = logging.getLogger(__name__)

EXIT_BAD_CONFIG = 2
EXIT_CANNOT_LISTEN = 3
SOCKET_PATH_BYTES_MAX = 107  # of a Unix socket, by the kernel's sockaddr_un


class BadConfig(Exception):
    """The configuration cannot be used; the message names file, field and value."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="kvtier_engine", description="The kvtier engine.")
    parser.add_argument("--config", type=Path, required=True, help="JSON that kvtier wrote")
    parser.add_argument("--parent-pid", type=int, help="end when this process, our parent, ends")
    options = parser.parse_args(arguments)
    if options.parent_pid is not None:
        die_with_parent(options.parent_pid)
    file: Path = options.config
    try:
        config = _load(file)
        keys = Keys.read(config.server)
        endpoint = _endpoint(config.run_dir)
    except BadSecret as error:
        return _refuse(str(error), "set the variable, or write the file", EXIT_BAD_CONFIG)
    except BadConfig as error:
        return _refuse(str(error), "`kvtier launch PROFILE` writes this file", EXIT_BAD_CONFIG)
    set_up_logging(config.log_level, "server", config.log_format)
    try:
        listener = listen(config.server)
    except ListenError as error:
        return _refuse(str(error), error.hint, EXIT_CANNOT_LISTEN)
    with listener:
        address = AddressFile(config.run_dir, listener)
        process = CoreProcess.start(config, file, endpoint)
        try:
            address.write()
            log.info("listening: host=%s port=%d", address.host, address.port)
            return asyncio.run(_serve(config, endpoint, listener, process, keys))
        finally:
            address.remove()
            process.close()


async def _serve(
    config: EngineConfig, endpoint: str, listener: socket.socket, process: CoreProcess, keys: Keys
) -> int:
    server = Server(config, endpoint, listener, process, keys)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.interrupt)
    return await server.run()


def _load(file: Path) -> EngineConfig:
    try:
        return load_config(file)
    except OSError as error:
        raise BadConfig(f"cannot read `{file}`: {error.strerror}") from error
    except ValidationError as error:
        places = [
            f"`{'.'.join(map(str, each['loc']))}`: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise BadConfig(f"{file}: {'; '.join(places)}") from error


def _endpoint(run_dir: Path) -> str:
    """Where server and core meet. Makes the run's folder if it is not there."""
    path = run_dir / "core.sock"
    if len(bytes(path)) > SOCKET_PATH_BYTES_MAX:
        raise BadConfig(
            f"`run_dir` `{run_dir}` is too long: `{path}` would have {len(bytes(path))} bytes, "
            f"a socket's path {SOCKET_PATH_BYTES_MAX} at most"
        )
    try:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadConfig(f"cannot make `run_dir` `{run_dir}`: {error.strerror}") from error
    return f"ipc://{path}"


def _refuse(message: str, hint: str, status: int) -> int:
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
