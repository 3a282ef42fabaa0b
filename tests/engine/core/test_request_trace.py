"""The request trace: whole lines, off the step path, whatever the disk does."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.engine_process import wait_for
from support.fake_engine import PAGE_TOKENS, FakeEngine, Sizes, page_keys

from kvtier_engine.core import request_trace
from kvtier_engine.core.request_trace import RequestTrace, page_id
from kvtier_engine.core.stats import collect
from kvtier_engine.messages import CachedTokens, CacheHints

LONG = list(range(20))


class Traced:
    """An engine with a trace in `path`."""

    def __init__(self, path: Path, sizes: Sizes | None = None) -> None:
        self.path = path
        self.engine = FakeEngine(sizes or Sizes())
        self.trace = self.engine.scheduler.trace = RequestTrace(path, PAGE_TOKENS)

    def lines(self, count: int) -> list[dict[str, Any]]:
        """When that many have been dealt with."""
        wait_for(lambda: self.trace.lines + self.trace.lost >= count, f"{count} lines", 10)
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    traced = Traced(tmp_path / "requests.jsonl")
    yield traced
    traced.trace.close()
    assert not traced.trace._thread.is_alive()


def test_a_line_says_what_the_engine_counted(traced: Traced) -> None:
    traced.engine.submit("a", LONG, 9)
    traced.engine.run()
    whole = LONG + traced.engine.answers["a"][:8]  # the last token drawn was never computed
    first = traced.engine.ask([*whole, 1], 1).cached
    one, two = traced.lines(2)
    ids = [page_id(key) for key in page_keys(whole)]
    assert one["hash_ids"] == ids[:5]
    assert one["answer_ids"] == ids[5:]
    assert (one["input_length"], one["output_length"], one["block_tokens"]) == (20, 9, PAGE_TOKENS)
    assert one["hits"] == {"l1": 0, "l2": 0, "l3": 0}
    assert two["hash_ids"] == ids
    assert two["answer_ids"] == []
    assert first is not None
    assert two["hits"] == {"l1": first.l1, "l2": first.l2, "l3": first.l3}
    assert two["hits"]["l1"] == 28
    assert 1.7e12 < one["timestamp"] <= two["timestamp"]
    assert two["ttft_ms"] > 0
    assert "no_store" not in one


def test_ids_are_exact_in_every_json_reader_and_differ_by_tenant(traced: Traced) -> None:
    for whose in ({}, {"tenant": "a"}, {"tenant": "b"}, {"salt": "s"}):
        traced.engine.ask(LONG, **whose)
    seen = [number for line in traced.lines(4) for number in line["hash_ids"]]
    assert len(set(seen)) == 4 * 5
    assert all(0 <= number < 2**53 for number in seen)


def test_who_stores_nothing_says_so_and_who_ended_early_says_nothing(traced: Traced) -> None:
    traced.engine.ask(LONG, hints=CacheHints(no_store=True))
    traced.engine.submit("gone", LONG, 3)
    traced.engine.scheduler.abort("gone")
    traced.engine.submit("control-x", LONG, 3)  # an operator's own, see core/ascent.py
    traced.engine.submit("half", [7] * 20, 9)
    traced.engine.step(6)
    assert traced.engine.answers["half"]
    traced.engine.scheduler.abort("half")
    traced.engine.run()
    lines = traced.lines(2)
    assert [line.get("no_store", False) for line in lines] == [True, False]
    assert lines[1]["output_length"] == len(traced.engine.answers["half"])


def test_who_ends_while_its_prompt_is_computed_anew_has_all_of_its_pages(traced: Traced) -> None:
    """After a preemption, that is: `computed` begins again, the answer had begun before."""
    record = traced.trace.arrived()
    record.answered(CachedTokens(0, 0, 0))
    keys = page_keys(LONG)
    for known in (keys, keys[:2]):
        seq = SimpleNamespace(
            record=record,
            request=SimpleNamespace(request_id="x"),
            computed=PAGE_TOKENS,
            prompt_tokens=len(LONG),
            answer_tokens=1,
            kv=SimpleNamespace(chain=SimpleNamespace(keys=known), stores=True),
        )
        traced.trace.ended(cast("Any", seq))
    [line] = traced.lines(2)
    assert line["hash_ids"] == [page_id(key) for key in keys]
    assert (traced.trace.lines, traced.trace.lost) == (1, 1)


def test_a_file_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text("")
    path.chmod(0o644)
    traced = Traced(path)
    traced.engine.ask(LONG)
    traced.trace.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().splitlines()) == 1


def test_the_file_is_private_and_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    for number in (1, 2):
        traced = Traced(path)
        traced.engine.ask(LONG)
        traced.trace.close()
        assert len(path.read_text().splitlines()) == number
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("move", [lambda p: p.rename(p.with_suffix(".1")), Path.unlink])
def test_a_file_that_was_rotated_away_is_made_anew(
    traced: Traced, move: Callable[[Path], Any]
) -> None:
    traced.engine.ask(LONG)
    traced.lines(1)
    move(traced.path)
    traced.engine.ask(LONG)
    assert len(traced.lines(2)) == 1


def test_a_vanished_folder_costs_lines_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    traced = Traced(tmp_path / "gone" / "requests.jsonl", Sizes(disk=False))
    for number in (1, 2, 3):
        traced.engine.ask(LONG)
        assert traced.lines(number) == []
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "No such file" in caplog.messages[0]
    counters = collect(traced.engine.scheduler, traced.engine.manager).counters
    assert counters["request_trace_lost_total"] == 3
    (tmp_path / "gone").mkdir()
    traced.engine.ask(LONG)
    assert len(traced.lines(4)) == 1
    assert "written again" in caplog.messages[1]
    traced.trace.close()


def test_a_full_disk_leaves_whole_lines(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    traced.engine.ask(LONG)
    before = traced.lines(1)
    room = [40]

    def write(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        part, room[0] = data[: room[0]], 0
        return os_write(fd, part)

    os_write = os.write
    monkeypatch.setattr(request_trace.os, "write", write)
    traced.engine.ask(LONG)
    assert traced.lines(2) == before
    monkeypatch.undo()
    traced.engine.ask(LONG)
    assert len(traced.lines(3)) == 2


def test_a_torn_line_of_a_crash_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"timest')
    traced = Traced(path)
    traced.engine.ask(LONG)
    traced.trace.close()
    torn, whole = path.read_text().splitlines()
    assert torn == '{"timest'
    assert json.loads(whole)["input_length"] == 20


def test_what_is_no_file_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(tmp_path / "pipe")
    traced = Traced(tmp_path / "pipe")
    traced.engine.ask(LONG)
    wait_for(lambda: traced.trace.lost == 1, "a lost line", 10)
    assert "no ordinary file" in caplog.messages[0]
    traced.trace.close()


def test_a_disk_that_hangs_costs_lines_and_no_step(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, hangs = threading.Event(), threading.Event()

    def append(data: bytes) -> None:
        hangs.set()
        assert goes_on.wait(30)

    monkeypatch.setattr(traced.trace._file, "append", append)

    def put(line: Any, block: bool = True, timeout: float | None = None) -> None:
        assert line is None or not block, "a step would have waited"
        really_put(line, block, timeout)

    really_put = traced.trace._waiting.put
    monkeypatch.setattr(traced.trace._waiting, "put", put)
    monkeypatch.setattr(traced.trace._waiting, "maxsize", 2)
    traced.engine.ask(LONG)
    assert hangs.wait(10)
    for _ in range(5):
        traced.engine.ask(LONG)
    assert traced.trace.lost == 3, "one hangs, two wait"
    goes_on.set()
    wait_for(lambda: traced.trace.lines == 3, "the others", 10)
