"""Reading request traces: forms, mistakes, memory."""

from __future__ import annotations

import gzip
import io
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
from ops.simulated import BEGINNING, line, write_lines

from kvtier_ops.errors import BadInput
from kvtier_ops.simulate import lines as lines_module
from kvtier_ops.simulate.trace import Trace, TraceOptions, read_trace

TIMED = {"timestamp": 0, "block_tokens": 4}


def read(tmp_path: Path, *lines: dict[str, Any] | str, **options: Any) -> Trace:
    return read_trace(write_lines(tmp_path / "t.jsonl", lines), TraceOptions(**options))


def test_blocks_are_numbered_and_know_their_parents(tmp_path: Path) -> None:
    trace = read(tmp_path, line([70, 80], **TIMED), line([70, 80, 90], **TIMED), line([5], **TIMED))
    assert [request.chain for request in trace] == [[0, 1], [0, 1, 2], [3]]
    assert list(trace.parents) == [-1, 0, 1, -1]
    assert trace.input_tokens == 9 + 13 + 5


def test_one_number_after_two_beginnings_is_two_blocks(tmp_path: Path) -> None:
    chains = [[1, 9], [2, 9], [1, 9, 9], [2, 9]]
    trace = read(tmp_path, *(line(chain, **TIMED) for chain in chains))
    assert [request.chain for request in trace] == [[0, 1], [2, 3], [0, 1, 4], [2, 3]]


def test_the_last_token_is_computed_in_any_case(tmp_path: Path) -> None:
    whole = {"input_length": 8, "hash_ids": [1, 2], **TIMED}
    trace = read(tmp_path, whole, line([1, 2], **TIMED))
    assert [request.reusable for request in trace] == [1, 2]
    assert [len(request.chain) for request in trace] == [2, 2]


def test_a_last_block_that_is_not_full_may_have_a_number(tmp_path: Path) -> None:
    trace = read(tmp_path, {"input_length": 9, "hash_ids": [1, 2, 3], **TIMED})
    assert [request.chain for request in trace] == [[0, 1]]


def test_an_answers_blocks_are_no_part_of_the_prompt(tmp_path: Path) -> None:
    trace = read(tmp_path, line([1], answer_ids=[2, 3], output_length=8, **TIMED))
    [request] = trace
    assert (request.chain, request.reusable) == ([0, 1, 2], 1)


@pytest.mark.parametrize("packed", [False, True])
def test_files_and_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    path = tmp_path / "t"
    data = Path(write_lines(path, ["", line([1, 2], **TIMED), "  "])).read_bytes()
    path.write_bytes(gzip.compress(data) if packed else data)
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(path.read_bytes())))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert [len(read_trace(str(path))), len(read_trace("-"))] == [1, 1]


def test_the_size_of_a_block_is_told_by_the_lengths() -> None:
    trace = read_trace(str(BEGINNING))
    assert (trace.block_tokens, len(trace), trace.has_times) == (512, 500, False)


def test_short_prompts_wait_for_one_that_tells_the_size(tmp_path: Path) -> None:
    short = {"input_length": 3, "hash_ids": [1]}
    trace = read(tmp_path, short, {"input_length": 6, "hash_ids": [2, 3]})
    assert trace.block_tokens == 4
    assert [request.chain for request in trace] == [[], [0]]
    with pytest.raises(BadInput, match="no prompt has two blocks"):
        read(tmp_path, short)
    assert len(read(tmp_path, short, block_tokens=4)) == 1


def test_requests_are_put_in_the_order_of_their_arrival(tmp_path: Path) -> None:
    lines = [line([n], timestamp=time, block_tokens=4) for n, time in enumerate((5000, 3000, 9000))]
    trace = read(tmp_path, *lines)
    assert [(r.arrival_s, r.chain) for r in trace] == [(0, [1]), (2, [0]), (6, [2])]
    assert (trace.late_lines, trace.duration_s) == (1, 6)


GOOD = line([1, 2], **TIMED)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{", "this is no request"),
        ("[]", "Expected `object`"),
        ({**GOOD, "input_length": "9"}, "input_length"),
        ({**GOOD, "input_length": -9}, ">= 0"),
        ({**GOOD, "timestamp": -1}, ">= 0"),
        ({**GOOD, "output_length": 1.5}, "output_length"),
        ({"timestamp": 0}, "missing required field"),
        ({**GOOD, "hash_ids": [1, None]}, "hash_ids"),
        ({**GOOD, "hash_ids": [1]}, "9 tokens are 2 full blocks of 4, and there are 1 `hash_ids`"),
        ({**GOOD, "hash_ids": [1, 2, 3, 4]}, "there are 4 `hash_ids`"),
        ({**GOOD, "block_tokens": 8}, "`block_tokens` is 8 here, and it was 4"),
        ({**GOOD, "block_tokens": 0}, ">= 1"),
        ({"input_length": 9, "hash_ids": [1, 2]}, "no `timestamp`, unlike those before"),
        ({**GOOD, "answer_ids": [3]}, "more than the answer can fill"),
        ({**GOOD, "hash_ids": [1, 2, 3], "answer_ids": [4], "output_length": 9}, "is not full"),
        ('{"input_length": 9, "hash_ids": [1, 2], "timestamp": 1e999}', "no request"),
        ("\xff", "this is no request"),
        ("[" * 200_000, "this is no request"),
    ],
)
def test_a_bad_line_is_told_with_its_place(
    tmp_path: Path, bad: dict[str, Any] | str, said: str
) -> None:
    path = write_lines(tmp_path / "t.jsonl", [GOOD, bad, GOOD])
    with pytest.raises(BadInput) as caught:
        read_trace(path)
    text = caught.value.render()
    assert text.startswith(f"error: {path}:2: ")
    assert said in text
    assert "--skip-bad" in text
    trace = read_trace(path, TraceOptions(skip_bad=True))
    assert (len(trace), trace.bad_lines) == (2, 1)


def test_a_line_that_is_too_long_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "LINE_BYTES_MAX", 200)
    trace = read(tmp_path, GOOD, "x" * 500, GOOD, skip_bad=True)
    assert (len(trace), trace.bad_lines) == (2, 1)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    for text, said in (("", "has no request"), ("\n\n", "has no request")):
        (tmp_path / "t").write_text(text)
        with pytest.raises(BadInput, match=said):
            read_trace(str(tmp_path / "t"))
    with pytest.raises(BadInput, match="all of its 1 lines are bad"):
        read(tmp_path, "{", skip_bad=True)
    with pytest.raises(BadInput, match="there is no trace"):
        read_trace(str(tmp_path / "none"))
    with pytest.raises(BadInput, match="cannot be read"):
        read_trace(str(tmp_path))
    packed = gzip.compress(b"x" * 10_000)
    for damaged in (packed[:20], packed[:12] + b"\xff\xff" + packed[14:], packed[:-4]):
        (tmp_path / "t.gz").write_bytes(damaged)
        with pytest.raises(BadInput, match=r"is damaged|this is no request"):
            read_trace(str(tmp_path / "t.gz"))


def test_lines_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without an end is read as far as one wants."""

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            text = b'{"input_length":9,"hash_ids":[1,2],"block_tokens":4}\n'
            buffer[: len(text)] = text
            return len(text)

    stdin = io.TextIOWrapper(io.BufferedReader(Endless()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert len(read_trace("-", TraceOptions(requests_max=1000))) == 1000


def test_progress_is_told(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t", itertools.repeat(GOOD, 1200))
    told: list[tuple[int, int]] = []
    read_trace(path, report=lambda done, total: told.append((done, total)))
    size = Path(path).stat().st_size
    assert [total for _, total in told] == [size] * 3
    assert told[-1][0] == size
