"""A rank above 0: `python -P -m kvtier_engine.core.rank --config F --rank R --parent-pid P
[--arena-fd N --slots-in-use N]`."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

import msgspec
import zmq

from kvtier_engine.config import load_config
from kvtier_engine.core.loading import load_runner
from kvtier_engine.core.rank_set import LOADED, RankReport, reports_address, steps_address
from kvtier_engine.log import set_up_logging
from kvtier_engine.placement import keep_to_cpus, placement_of, take_memory
from kvtier_engine.process import die_with_parent
from kvtier_engine.runner.step import Step
from kvtier_engine.runner.worker import serve_steps
from kvtier_store import Arena


def main() -> None:
    parser = argparse.ArgumentParser(prog="kvtier_engine.core.rank")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--arena-fd", type=int)
    parser.add_argument("--slots-in-use", type=int)
    parser.add_argument("--parent-pid", type=int, required=True)
    args = parser.parse_args()
    die_with_parent(args.parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the core says when to end
    config = load_config(args.config)
    set_up_logging(config.log_level, f"rank-{args.rank}", config.log_format)
    placement = placement_of(config, args.rank)
    take_memory(placement)
    keep_to_cpus(placement)
    context = zmq.Context()
    steps = context.socket(zmq.PULL)
    steps.connect(steps_address(config.run_dir, args.rank))
    reports = context.socket(zmq.PUSH)
    reports.connect(reports_address(config.run_dir))
    decoder = msgspec.msgpack.Decoder(Step)

    def receive() -> Step | None:
        frame = steps.recv()
        return decoder.decode(frame) if frame else None

    def report(number: int) -> None:
        reports.send(msgspec.msgpack.encode(RankReport(args.rank, number)))

    arena = None if args.arena_fd is None else Arena.attach(args.arena_fd)
    runner = load_runner(config, args.rank, arena, args.slots_in_use, lambda done, total: None)
    report(LOADED)
    serve_steps(receive, report, runner)
    runner.close()


if __name__ == "__main__":
    main()
