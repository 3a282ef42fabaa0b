"""The server's life: start, serve, drain, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from kvtier_engine.config import EngineConfig
from kvtier_engine.messages import Failed, Progress, Stats
from kvtier_engine.model.gguf import model_folder
from kvtier_engine.server.app import create_app
from kvtier_engine.server.auth import Keys
from kvtier_engine.server.core_client import CoreClient, Event
from kvtier_engine.server.core_process import CoreProcess, describe_end
from kvtier_engine.server.described import described
from kvtier_engine.server.errors import InternalError, Unavailable
from kvtier_engine.server.lifecycle import RETRY_DRAINING_S, Lifecycle, Status
from kvtier_engine.server.metrics import Metrics
from kvtier_engine.server.routes.status import VERSION
from kvtier_engine.server.service import Service
from kvtier_engine.server.text.tokenizer import Tokenizer, TokenizerError, preload

log = logging.getLogger(__name__)

CORE_END_S_MAX = 60.0  # after Shutdown; the core gives its disk 30 s
LAST_WORDS_S = 1.0  # for the message of a core that ended with an error
CLOSE_CONNECTIONS_S = 3  # for clients to take the last bytes
KEEP_ALIVE_S = 75  # longer than clients' own, so that it is they who close idle connections


class Server:
    """Ties HTTP, core process and lifecycle together. Used once, in one event loop."""

    def __init__(
        self,
        config: EngineConfig,
        endpoint: str,
        listener: socket.socket,
        process: CoreProcess,
        keys: Keys,
    ) -> None:
        self._config = config
        self._listener = listener
        self._process = process
        self._lifecycle = Lifecycle()
        slots = config.scheduler.max_queued + config.scheduler.max_running
        self._core = CoreClient(endpoint, slots, self._on_event)
        self._service = Service(
            config=config,
            lifecycle=self._lifecycle,
            core=self._core,
            metrics=Metrics(lambda: self._core.in_flight),
            started=int(time.time()),
            keys=keys,
        )
        self._service.metrics.describe(described(config, VERSION))
        self._interrupts = 0
        self._stop = asyncio.Event()  # the first interrupt
        self._hurry = asyncio.Event()  # the second
        self._failed = asyncio.Event()  # the core, or the tokenizer, said that it cannot go on
        self._importing: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Serves until interrupted or the core's end; the exit status of the process."""
        http = _Http(uvicorn_config(self._service))
        serving = asyncio.create_task(http.serve([self._listener]))
        talking = asyncio.create_task(self._core.run())
        ended = asyncio.create_task(self._process.ended())
        self._importing = asyncio.create_task(asyncio.to_thread(preload))
        try:
            return await self._serve(serving, talking, ended)
        finally:
            http.should_exit = True
            await asyncio.wait({serving})
            await _cancel(talking, ended, self._opening, self._importing)
            self._core.close()
            self._service.close()

    def interrupt(self) -> None:
        """Once: drain. Twice: drain no longer. Three times: do not wait for the flush."""
        self._interrupts += 1
        self._stop.set()
        if self._interrupts == 2:
            self._hurry.set()
        elif self._interrupts > 2:
            self._process.kill()

    async def _serve(
        self, http: asyncio.Task[None], talking: asyncio.Task[None], ended: asyncio.Task[int]
    ) -> int:
        stop = asyncio.create_task(self._stop.wait())
        failed = asyncio.create_task(self._failed.wait())
        tasks: set[asyncio.Task[Any]] = {stop, failed, http, talking, ended}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await _cancel(stop, failed)
        for task in (http, talking):
            if task.done():
                self._fail(f"an internal task ended: {task.exception()!r}")
                self._process.terminate()  # it cannot be told any more
        if self._failed.is_set() or http.done() or talking.done():
            await self._end_core(ended)
            return 1
        if ended.done():
            return await self._core_died(ended.result())
        return await self._drain(ended)

    def _on_event(self, event: Event) -> None:
        match event:
            case Progress(ready=True):
                self._opening = asyncio.create_task(self._open())
            case Progress():
                self._lifecycle.progress(event)
            case Stats():
                self._service.metrics.update(event)
            case Failed(error, hint):
                self._fail(error, hint)

    async def _open(self) -> None:
        """The core is ready: load the tokenizer, which may have been made by the core."""
        assert self._importing is not None, "run() starts it"
        try:
            await self._importing  # two threads may not import transformers at once
            folder = model_folder(self._config.model.path)
            tokenizer = await asyncio.to_thread(Tokenizer.load, folder)
        except TokenizerError as error:
            self._fail(str(error))
            return
        except Exception as error:
            log.exception("the tokenizer could not be loaded")
            self._fail(f"the tokenizer could not be loaded: {error!r}")
            return
        self._service.open(tokenizer)
        log.info("ready: model=%s", self._config.model.served_name)

    def _fail(self, error: str, hint: str = "") -> None:
        log.error("%s%s", error, f"; hint: {hint}" if hint else "")
        self._lifecycle.fail(error)
        self._core.fail_all(InternalError(f"the engine failed: {error}"))
        self._failed.set()

    async def _core_died(self, status: int) -> int:
        if status > 0:  # it had the time to say why
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._failed.wait(), LAST_WORDS_S)
        log.error("the core process ended: %s", describe_end(status))
        self._lifecycle.fail(f"the core process ended: {describe_end(status)}")
        self._core.fail_all(InternalError("the engine's core process ended; try again soon"))
        return 1

    async def _drain(self, ended: asyncio.Task[int]) -> int:
        """Lets what runs finish, tells the core to flush and end."""
        was_starting = self._lifecycle.status is Status.STARTING
        self._lifecycle.drain()
        if was_starting:  # the core does not listen yet, and has nothing to flush
            log.info("stopping before the start was complete")
            self._process.terminate()
            await ended
            return 0
        drain_s = self._config.server.drain_s
        log.info("draining: in_flight=%d drain_s=%g", self._core.in_flight, drain_s)
        idle = asyncio.create_task(self._core.idle())
        hurry = asyncio.create_task(self._hurry.wait())
        waits: set[asyncio.Task[Any]] = {idle, hurry, ended}
        await asyncio.wait(waits, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
        await _cancel(idle, hurry)
        if ended.done():
            return await self._core_died(ended.result())
        if self._core.in_flight:
            log.warning("aborting: in_flight=%d", self._core.in_flight)
            self._core.fail_all(
                Unavailable("the server shut down before the answer was complete", RETRY_DRAINING_S)
            )
        return await self._end_core(ended)

    async def _end_core(self, ended: asyncio.Task[int]) -> int:
        """Tells the core to flush and end; kills it when it does not. 0 if it ended well."""
        self._core.shutdown()
        done, _ = await asyncio.wait({ended}, timeout=CORE_END_S_MAX)
        if not done:
            log.error("the core did not end within %g s: killing it", CORE_END_S_MAX)
            self._process.kill()
        status = await ended
        if status == 0:
            log.info("stopped")
            return 0
        log.error("the core ended badly: %s", describe_end(status))
        return 1


class _Http(uvicorn.Server):
    """uvicorn, without its signal handlers: signals are the Server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def uvicorn_config(service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(service),
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSE_CONNECTIONS_S,
    )


async def _cancel(
    *tasks: asyncio.Task[Any] | None,
) -> None:
    for task in tasks:
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
