"""All ranks as one, when one of them is not there."""

import sys
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import zmq
from support.engine_process import short_run_dir, wait_for

from kvtier_engine.core import rank_set
from kvtier_engine.core.rank_set import LOADED, RankDied, RankReport, RankSet, reports_address
from kvtier_engine.core.rank_set import steps_address as address_of_steps
from kvtier_engine.runner.step import Step

RUNNER = cast(
    Any, SimpleNamespace(execute=lambda step: [], offloads_done=lambda: 7, close=lambda: None)
)


@pytest.fixture
def context():
    context: zmq.Context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def run_dir():
    with short_run_dir() as folder:
        yield folder


def report(context: zmq.Context, run_dir, *reports: RankReport) -> zmq.Socket:
    socket = context.socket(zmq.PUSH)
    socket.connect(reports_address(run_dir))
    for each in reports:
        socket.send(msgspec.msgpack.encode(each))
    return socket


def test_a_step_for_a_rank_that_has_gone_is_an_error_and_no_wait(context, run_dir, monkeypatch):
    monkeypatch.setattr(rank_set, "SEND_S_MAX", 0.2)
    ranks = RankSet(context, run_dir, 2)
    with report(context, run_dir, RankReport(1, LOADED)):
        ranks.ready(RUNNER)
    with pytest.raises(RankDied, match="rank 1"):
        ranks.execute(Step(number=1))
    ranks.close()


def test_offloads_are_done_when_the_slowest_rank_has_made_them(context, run_dir):
    ranks = RankSet(context, run_dir, 3)
    reports = [RankReport(1, LOADED), RankReport(2, LOADED)]
    with report(context, run_dir, *reports) as socket:
        ranks.ready(RUNNER)
        assert ranks.offloads_done() == 0
        socket.send(msgspec.msgpack.encode(RankReport(1, 5)))
        socket.send(msgspec.msgpack.encode(RankReport(2, 4)))
        wait_for(lambda: ranks.offloads_done() == 4, "the reports", 5)
    ranks.close()


def test_steps_reach_every_rank(context, run_dir):
    ranks = RankSet(context, run_dir, 2)
    with context.socket(zmq.PULL) as steps, report(context, run_dir, RankReport(1, LOADED)):
        steps.connect(address_of_steps(run_dir, 1))
        ranks.ready(RUNNER)
        ranks.execute(Step(number=3, drop=[1]))
        assert msgspec.msgpack.decode(steps.recv(), type=Step) == Step(number=3, drop=[1])
        ranks.close()
        assert steps.recv() == b""  # the end


def test_a_rank_that_ends_while_loading_is_named(context, run_dir, monkeypatch):
    ranks = RankSet(context, run_dir, 2)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    ranks.start(run_dir / "engine.json", None)
    with pytest.raises(RankDied, match="rank 1 ended with status 1"):
        ranks.ready(RUNNER)
    ranks.close()
