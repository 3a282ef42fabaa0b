"""The core process: `python -P -m kvtier_engine.core --config F --socket ipc://... --parent-pid P`.

Started by the server process, and gone when that is gone. Says how far the start is,
serves until it is told to stop, and gives the disk what it does not have yet.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import zmq

from kvtier_engine.config import EngineConfig, load_config
from kvtier_engine.core.connection import Connection
from kvtier_engine.core.disk import DiskOpener, DiskUnavailable
from kvtier_engine.core.disk_changes import DiskChanges
from kvtier_engine.core.engine import Engine
from kvtier_engine.core.host_memory import HostMemory, open_arena, open_host
from kvtier_engine.core.loading import load_runner
from kvtier_engine.core.loop import Loop
from kvtier_engine.core.memory_changes import MemoryChanges
from kvtier_engine.core.rank_set import RankDied, RankSet
from kvtier_engine.core.rates_file import leave_rates
from kvtier_engine.core.request_trace import RequestTrace
from kvtier_engine.core.scheduler import Scheduler
from kvtier_engine.core.tier_changes import TierChanges
from kvtier_engine.core.warmup import warm_up
from kvtier_engine.kv.keys import namespace
from kvtier_engine.kv.manager import KvManager
from kvtier_engine.kv.pages import PagePool
from kvtier_engine.kv.policy import make_policy
from kvtier_engine.kv.priority import ByPriority
from kvtier_engine.kv.rates import ComputeRate, Rates
from kvtier_engine.kv.tenants import Tenants
from kvtier_engine.log import set_up_logging
from kvtier_engine.messages import Failed, Progress
from kvtier_engine.model.errors import ModelError
from kvtier_engine.model.fingerprint import model_fingerprint
from kvtier_engine.model.gguf import convert, model_folder
from kvtier_engine.model.spec import read_spec
from kvtier_engine.placement import keep_to_cpus, placement_of, take_memory
from kvtier_engine.process import die_with_parent
from kvtier_store import Arena

log = logging.getLogger(__name__)

LAST_WORDS_MS = 2000  # for what was said last to reach the server


class Start:
    """Builds the engine, stage by stage, each reported to the server."""

    def __init__(self, config: EngineConfig, config_file: Path, connection: Connection) -> None:
        self._config = config
        self._config_file = config_file
        self._connection = connection
        self.memory: HostMemory | None = None

    def build(self, context: zmq.Context[zmq.Socket[bytes]]) -> tuple[Engine, RankSet, TierChanges]:
        """Raises ModelError or RankDied: without a model there is nothing to serve."""
        config = self._config
        convert(config.model.path, self._progress("convert"))
        folder = model_folder(config.model.path)
        spec = read_spec(folder)
        space = namespace(config, model_fingerprint(folder, workers=config.model.load_workers))
        memory = self.memory = open_arena(config, space)
        ranks = RankSet(context, config.run_dir, config.parallel.tensor_parallel)
        arena, fd, slots = (memory.arena, memory.fd, memory.slots_in_use) if memory else (None,) * 3
        ranks.start(self._config_file, fd, slots)
        keep_to_cpus(placement_of(config, 0))  # after the start: the others have CPUs of their own
        ranks.ready(load_runner(config, 0, arena, slots, self._loading(arena)))
        opener = DiskOpener(config, space)
        manager = self._open_cache(memory, opener)
        tokens, took_s = warm_up(ranks, config, self._progress("warmup"))
        manager.rates.compute.step(tokens, took_s, has_drawn=True)
        tenants = Tenants(space, config.state_dir)
        scheduler = Scheduler(config.scheduler, manager, space, spec.eos_ids, tenants)
        if config.server.request_trace is not None:
            scheduler.trace = RequestTrace(config.server.request_trace, config.cache.page_tokens)
        engine = Engine(scheduler, manager, ranks)
        changes = TierChanges(MemoryChanges(engine, memory, config), DiskChanges(manager, opener))
        return engine, ranks, changes

    def _open_cache(self, memory: HostMemory | None, opener: DiskOpener) -> KvManager:
        config = self._config
        l1 = config.cache.l1
        manager = KvManager(
            config.cache.page_tokens,
            PagePool(l1.pages, ByPriority(lambda: make_policy(l1.eviction, l1.pages))),
            open_host(config, memory),
            prefix_reuse=config.cache.prefix_reuse,
            rates=Rates(
                ComputeRate(config.scheduler.max_step_tokens // 4, waits=config.device == "cpu"),
                page_tokens=config.cache.page_tokens,
                page_bytes=config.cache.page_bytes,
            ),
            compute_while_loading=config.cache.l3.compute_while_loading,
        )
        if opener.directories and manager.host is not None:
            self._attach_disk(manager, opener)
        return manager

    def _attach_disk(self, manager: KvManager, opener: DiskOpener) -> None:
        """Goes without one that cannot be had: an operator can attach it later."""
        try:
            disk = opener.open(manager.host.slots if manager.host is not None else 0)
        except DiskUnavailable as error:
            log.error("L3 is out of use, the engine goes on without it: %s", error)
            return
        manager.l3.attach(disk.tier, disk.rules)
        pages = disk.tier.stats().recovered_pages
        self._progress("l3")(pages, pages)

    def _loading(self, arena: Arena | None) -> Callable[[int, int], None]:
        """Progress of the weights, and of the arena that is populated meanwhile."""
        model, l2 = self._progress("model"), self._progress("l2")

        def report(done: int, total: int) -> None:
            model(done, total)
            if arena is not None:
                l2(arena.populated_bytes, arena.target_bytes)

        return report

    def _progress(self, stage: str) -> Stage:
        return Stage(self._connection, stage)


class Stage:
    """Reports one stage, at most a hundred times."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._percent = -1

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // total if total else 100
        if percent != self._percent:
            self._percent = percent
            self._connection.send(Progress(self._name, done, total))


def main() -> int:
    parser = argparse.ArgumentParser(prog="kvtier_engine.core")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    args = parser.parse_args()
    die_with_parent(args.parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server says when to stop
    config = load_config(args.config)
    set_up_logging(config.log_level, "core", config.log_format)
    take_memory(placement_of(config, 0))  # before the arena, whose first touch decides
    context = zmq.Context()
    connection = Connection(context, args.socket)
    try:
        start = Start(config, args.config, connection)
        engine, ranks, changes = start.build(context)
        connection.send(Progress("ready", 1, 1, ready=True))
        loop = Loop(connection, engine, ranks, changes, start.memory)
        signal.signal(signal.SIGTERM, lambda signum, frame: loop.stop())
        is_clean = loop.run()
        leave_rates(config, engine.manager.rates)
        if engine.scheduler.trace is not None:
            engine.scheduler.trace.close()
        ranks.close()
        if not is_clean:
            context.destroy(linger=LAST_WORDS_MS)
            os._exit(0)  # an ordinary exit would wait for the hung disk's threads
    except (ModelError, RankDied) as error:
        log.error("%s", error)
        connection.send(Failed(str(error), getattr(error, "hint", "")))
        return 1
    except Exception as error:
        log.exception("the core failed")
        connection.send(Failed(f"internal error: {error!r}", "the log has the traceback"))
        return 1
    finally:
        context.destroy(linger=LAST_WORDS_MS)  # waits: an exit alone would lose the last words
    return 0


if __name__ == "__main__":
    sys.exit(main())
