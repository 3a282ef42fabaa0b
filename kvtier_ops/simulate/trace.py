"""Request traces: who asked when, and which blocks of a prompt were asked for before.

Each line is a JSON object, in the form that the Mooncake project published its traces in:
`timestamp` (milliseconds), `input_length` and `output_length` (tokens), and `hash_ids`, one number
for each block of the prompt, equal where the whole prompt up to the block's end is equal; the last
block may be one that is not full. The engine's own log (`server.request_trace`) has the same, and
says more: `block_tokens`; `answer_ids`, of the blocks that the answer filled; `no_store`. Other
fields are not looked at.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgspec

from kvtier_ops.errors import BadInput
from kvtier_ops.simulate.lines import LINE_BYTES_MAX, STDIN, Report, no_report, read_lines

NO_BLOCK = -1  # the parent of a prompt's first block
_TOKENS_MAX = 1 << 40
_TIME_MS_MAX = 1e15
_Count = Annotated[int, msgspec.Meta(ge=0, le=_TOKENS_MAX)]
_FORM = "a line is a JSON object with `timestamp`, `input_length`, `output_length` and `hash_ids`"
_SKIP = "`--skip-bad` leaves such lines out"


class _Line(msgspec.Struct):
    input_length: _Count
    hash_ids: list[int]
    timestamp: Annotated[float, msgspec.Meta(ge=0, le=_TIME_MS_MAX)] | None = None
    output_length: _Count = 0
    block_tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] | None = None
    answer_ids: list[int] = []
    no_store: bool = False


class Request(NamedTuple):
    """`chain`: its full blocks, head first, as numbers of the trace; those that its answer filled
    come last. Only the first `reusable` may come from a cache: the prompt's last token is computed
    in any case, for what follows it."""

    arrival_s: float  # since the first one
    input_tokens: int
    output_tokens: int
    chain: list[int]
    reusable: int
    stores: bool


@dataclass(frozen=True)
class TraceOptions:
    block_tokens: int | None = None  # None: as the lines say, or as their lengths tell
    skip_bad: bool = False
    requests_max: int | None = None


class Trace:
    """All requests in the order of their arrival. Blocks are numbered from 0; a block's parent has
    a smaller number."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.block_tokens = 0
        self.parents = array("q")  # of each block
        self.bad_lines = 0
        self.late_lines = 0  # that stood behind a later one
        self.has_times = True
        self._blocks = array("I")  # of all chains, one after another
        self._ends = array("Q")
        self._times_s = array("d")
        self._inputs = array("Q")
        self._outputs = array("Q")
        self._reusable = array("I")
        self._no_store: set[int] = set()
        self._order: list[int] | None = None  # None: as they stand

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def unique(self) -> int:
        """Different full blocks."""
        return len(self.parents)

    @property
    def blocks(self) -> int:
        """Full blocks of all requests."""
        return len(self._blocks)

    @property
    def input_tokens(self) -> int:
        return sum(self._inputs)

    @property
    def output_tokens(self) -> int:
        return sum(self._outputs)

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last."""
        return max(self._times_s, default=0.0)

    def __iter__(self) -> Iterator[Request]:
        return map(self.request, self._order if self._order is not None else range(len(self)))

    def request(self, line: int) -> Request:
        """The request that stands at this place in the file, from 0."""
        begin = self._ends[line - 1] if line else 0
        return Request(
            self._times_s[line],
            self._inputs[line],
            self._outputs[line],
            self._blocks[begin : self._ends[line]].tolist(),
            self._reusable[line],
            line not in self._no_store,
        )

    def rate(self, blocks: int) -> float:
        """So many blocks, of all prompts' tokens."""
        tokens = self.input_tokens
        return blocks * self.block_tokens / tokens if tokens else 0.0

    def _append(self, line: _Line, time_s: float, chain: array[int], prompt_blocks: int) -> None:
        if line.no_store:
            self._no_store.add(len(self))
        self._times_s.append(time_s)
        self._inputs.append(line.input_length)
        self._outputs.append(line.output_length)
        self._blocks.extend(chain)
        self._ends.append(len(self._blocks))
        self._reusable.append(
            min(prompt_blocks, max(0, line.input_length - 1) // self.block_tokens)
        )

    def _put_in_order(self) -> None:
        times = self._times_s
        latest = -math.inf
        for time_s in times:
            self.late_lines += time_s < latest
            latest = max(latest, time_s)
        if self.late_lines:
            self._order = sorted(range(len(times)), key=times.__getitem__)
        first = min(times, default=0.0)
        self._times_s = array("d", (time_s - first for time_s in times))


def read_trace(
    path: str, options: TraceOptions = TraceOptions(), report: Report = no_report
) -> Trace:
    """`path`: .jsonl, packed with gzip or not, or `-`. Needs memory for the blocks' numbers and no
    more, however long the file is. Raises BadInput, with the line that is wrong."""
    reader = _Reader(path, options)
    for number, text in read_lines(path, report):
        if options.requests_max is not None and reader.requests >= options.requests_max:
            break
        reader.take(number, text)
    return reader.finish()


class _Wrong(Exception):
    """One line; says what is wrong with it and what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


class _Reader:
    """Takes one line after another. Lines that come before the size of a block is known wait."""

    def __init__(self, path: str, options: TraceOptions) -> None:
        self._name = "standard input" if path == STDIN else path
        self._options = options
        self._trace = Trace(self._name)
        self._trace.block_tokens = options.block_tokens or 0
        self._decode = msgspec.json.Decoder(_Line).decode
        self._waiting: list[tuple[int, _Line]] = []
        self._block_of: dict[int, int] = {}  # by its number in the file
        self._other_block_of: dict[tuple[int, int], int] = {}  # by its parent as well
        self._timed: bool | None = None
        self._lines = 0

    @property
    def requests(self) -> int:
        return len(self._trace) + len(self._waiting)

    def take(self, number: int, text: bytes) -> None:
        self._lines += 1
        known = self._trace.block_tokens
        try:
            line = self._parsed(text)
            self._find_block_tokens(line)
            if self._trace.block_tokens:
                self._check(line)
                self._drain()
                self._add(line)
            else:
                self._waiting.append((number, line))
        except _Wrong as wrong:
            if not self._trace:  # what is wrong has told nothing
                self._trace.block_tokens = known
            self._refuse(number, wrong)

    def finish(self) -> Trace:
        trace = self._trace
        if self._waiting:
            raise BadInput(
                f"{self._name}: no prompt has two blocks, so their size cannot be told",
                "say it: `--block-tokens 512`",
            )
        if not len(trace):
            what = "has no request"
            if trace.bad_lines:
                what += f": all of its {trace.bad_lines:,} lines are bad"
            raise BadInput(f"{self._name} {what}", _FORM)
        trace.has_times = bool(self._timed)
        trace._put_in_order()
        return trace

    def _parsed(self, text: bytes) -> _Line:
        if not text:
            raise _Wrong(f"the line is longer than {LINE_BYTES_MAX >> 20} MiB", _FORM)
        try:
            line = self._decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _Wrong(f"this is no request: {error}", _FORM) from None
        timed = line.timestamp is not None
        if self._timed is not None and timed != self._timed:
            raise _Wrong(
                "this line has " + ("a" if timed else "no") + " `timestamp`, unlike those before",
                "either all lines have one, or none has",
            )
        return line

    def _find_block_tokens(self, line: _Line) -> None:
        told, known = line.block_tokens, self._trace.block_tokens
        if told is not None:
            if known and known != told:
                by = "`--block-tokens` says" if self._options.block_tokens else "it was"
                raise _Wrong(
                    f"`block_tokens` is {told} here, and {by} {known}",
                    "a trace has blocks of one size: split the file where it changes",
                )
            self._trace.block_tokens = told
        elif not known and len(line.hash_ids) > 1 and line.input_length:
            # The least power of two with which no prompt has more blocks than it is told to have.
            size = -(-line.input_length // len(line.hash_ids))
            self._trace.block_tokens = 1 << (size - 1).bit_length()

    def _drain(self) -> None:
        waiting, self._waiting = self._waiting, []
        for number, line in waiting:
            try:
                self._add(line)
            except _Wrong as wrong:
                self._refuse(number, wrong)

    def _check(self, line: _Line) -> None:
        size = self._trace.block_tokens
        full = line.input_length // size
        if len(line.hash_ids) not in (full, -(-line.input_length // size)):
            raise _Wrong(
                f"{line.input_length:,} tokens are {full:,} full blocks of {size}, and there are "
                f"{len(line.hash_ids):,} `hash_ids`",
                "if blocks have another size, say it: `--block-tokens`",
            )
        if line.answer_ids and len(line.hash_ids) != full:
            raise _Wrong("`answer_ids` go on from full blocks, and the prompt's last is not full")
        if line.answer_ids and full + len(line.answer_ids) > (
            (line.input_length + line.output_length) // size
        ):
            raise _Wrong("`answer_ids` are more than the answer can fill")

    def _add(self, line: _Line) -> None:
        self._check(line)
        full = line.input_length // self._trace.block_tokens
        chain = self._chain(line.hash_ids[:full] + line.answer_ids)
        self._timed = line.timestamp is not None
        time_s = len(self._trace) if line.timestamp is None else line.timestamp / 1000
        self._trace._append(line, time_s, chain, full)

    def _chain(self, numbers: list[int]) -> array[int]:
        """A block is what its number and all blocks before it say: where a file uses one number
        after different beginnings, these are different blocks."""
        chain, parents = array("I"), self._trace.parents
        known, parent = self._block_of, NO_BLOCK
        for number in numbers:
            block = known.get(number)
            if block is None:
                block = known[number] = len(parents)
                parents.append(parent)
            elif parents[block] != parent:
                block = self._other_block(parent, number)
            chain.append(block)
            parent = block
        return chain

    def _other_block(self, parent: int, number: int) -> int:
        parents = self._trace.parents
        block = self._other_block_of.get((parent, number))
        if block is None:
            block = self._other_block_of[parent, number] = len(parents)
            parents.append(parent)
        return block

    def _refuse(self, number: int, wrong: _Wrong) -> None:
        if not self._options.skip_bad:
            hint = f"{wrong.hint}; {_SKIP}" if wrong.hint else _SKIP
            raise BadInput(str(wrong), hint, place=f"{self._name}:{number}")
        self._trace.bad_lines += 1
