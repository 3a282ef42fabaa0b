"""Drives one store in its own process: takes turns as lines of JSON, answers with lines of JSON."""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pagestore import huge
from pagestore.peers.adapter import STAMP_BYTES, Adapter, Item, Setting
from pagestore.turn import Turn, measured

WARM_UP = 1 << 40  # numbers from here on are of pages that only wake the store up


class Runner:
    def __init__(self, adapter: Adapter, setting: Setting) -> None:
        self.adapter, self.setting = adapter, setting
        noise = random.Random(setting.page_bytes).randbytes(setting.page_bytes)
        for slot in range(setting.slots):
            adapter.page(slot)[:] = noise

    def warm_up(self) -> None:
        """Touches the memory and starts the threads that turns will use."""
        numbers = [WARM_UP + i for i in range(self.setting.slots)]
        self.put(numbers)
        self.concurrent(numbers)

    def put(self, numbers: Sequence[int]) -> Turn:
        turn = Turn(len(numbers) * self.setting.page_bytes)
        with measured(turn):
            for batch in self._batches(numbers, self.setting.slots):
                for item in batch:
                    self._stamp(self.adapter.page(item.slot), item.key)
                self.adapter.put(batch)
            self.adapter.sync()
        return turn

    def single(self, numbers: Sequence[int]) -> Turn:
        """One get after another."""
        return self._get(numbers, 1)

    def concurrent(self, numbers: Sequence[int]) -> Turn:
        """As many gets at once as there are buffers; the store decides what it does with them."""
        return self._get(numbers, self.setting.slots)

    def present(self, numbers: Sequence[int]) -> Turn:
        """Gets pages that may be gone: the payload counts those that came back right."""
        turn = Turn()
        for batch in self._batches(numbers, 1):
            right = self._right(self.adapter.get(batch)[0], batch[0])
            turn.payload_bytes += right * self.setting.page_bytes
        return turn

    def _get(self, numbers: Sequence[int], at_once: int) -> Turn:
        turn = Turn(len(numbers) * self.setting.page_bytes)
        with measured(turn):
            for batch in self._batches(numbers, at_once):
                for item in batch:
                    self._stamp(self.adapter.page(item.slot), bytes(STAMP_BYTES))
                start = time.perf_counter()
                pages = self.adapter.get(batch)
                turn.latencies_s.append(time.perf_counter() - start)
                for page, item in zip(pages, batch, strict=True):
                    assert self._right(page, item), f"page {item.number} is not there or not right"
        return turn

    def _batches(self, numbers: Sequence[int], size: int) -> Iterator[list[Item]]:
        """Through buffers that go round: one that was just read from is in somebody's cache."""
        for at in range(0, len(numbers), size):
            batch = enumerate(numbers[at : at + size], at)
            yield [Item(i % self.setting.slots, each) for i, each in batch]

    def _stamp(self, page: memoryview, stamp: bytes) -> None:
        page[:STAMP_BYTES] = stamp
        page[-STAMP_BYTES:] = stamp

    def _right(self, page: memoryview | None, item: Item) -> bool:
        return page is not None and page[:STAMP_BYTES] == item.key == page[-STAMP_BYTES:]


def serve(module: str, given: dict[str, Any]) -> None:
    """Reads commands from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the store prints is no answer
    setting = Setting(**given | {"folder": Path(given["folder"])})
    adapter = importlib.import_module(f"pagestore.peers.{module}").open_adapter(setting)
    runner = Runner(adapter, setting)
    print(json.dumps({"huge": not huge.refused}), file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "warm_up":
            runner.warm_up()
            answer: dict[str, Any] = {}
        else:
            answer = asdict(getattr(runner, command["do"])(command["numbers"]))
        print(json.dumps(answer), file=answers, flush=True)
    adapter.close()
