"""Pages go to L2 and come back as the same bytes, and the answer does not notice."""

from __future__ import annotations

from pathlib import Path

import torch
from support.models import (
    GREEDY,
    PAGE_TOKENS,
    Feeder,
    Leader,
    led_ranks,
    make_runner,
    random_prompt,
)

from kvtier_engine.config import KvGeometry
from kvtier_engine.model.spec import read_spec
from kvtier_engine.runner.distributed import RankGroup
from kvtier_engine.runner.runner import Runner
from kvtier_engine.runner.step import Copy, NewSequence

TOKENS = 10
PROMPT = random_prompt(5 * PAGE_TOKENS + 3)
SLOTS = 12


class Memory:
    """Stands in for the arena where only its memory matters: slots with a gap between them."""

    def __init__(self, geometry: KvGeometry, parts: int) -> None:
        self.part_bytes = geometry.page_bytes(PAGE_TOKENS) // parts
        self.part_stride = self.part_bytes + 512
        self._parts = [bytearray(b"\xee" * (SLOTS * self.part_stride)) for _ in range(parts)]

    def part_view(self, part: int) -> memoryview:
        return memoryview(self._parts[part])

    def slot(self, slot: int) -> bytes:
        """The page in a slot: its parts, one after another."""
        begin = slot * self.part_stride
        return b"".join(part[begin : begin + self.part_bytes] for part in self._parts)

    def gaps(self) -> set[int]:
        """The values of all bytes between slots."""
        views = [memoryview(part) for part in self._parts]
        return {
            byte
            for view in views
            for slot in range(SLOTS)
            for byte in view[slot * self.part_stride :][self.part_bytes : self.part_stride]
        }


def geometry(model: Path) -> KvGeometry:
    return read_spec(model).geometry("float32")


def fill(runner: Runner) -> tuple[list[int], list[Copy]]:
    """Answers PROMPT with a cold cache; offloads its full pages to slots 3, 5, 7, ..."""
    feeder = Feeder(runner)
    answer = feeder.generate(0, PROMPT, TOKENS)
    full = feeder.tables[0][: len(PROMPT) // PAGE_TOKENS]
    copies = [Copy(page, 3 + 2 * index) for index, page in enumerate(full[:4])]
    feeder.execute(offloads=copies)
    runner.wait_for_offloads()
    assert runner.offloads_done() == feeder.number
    return answer, copies


def answer_from(runner: Runner | Leader, copies: list[Copy]) -> list[int]:
    """The answer of a runner that restores the pages and computes only what is after them."""
    feeder = Feeder(runner)
    cached = len(copies) * PAGE_TOKENS
    chunk = feeder.chunk(0, cached, PROMPT[cached:], True)
    restores = [Copy(page, copy.slot) for page, copy in zip(chunk.pages, copies, strict=False)]
    new = [NewSequence(0, PROMPT, GREEDY)]
    known = [*PROMPT]
    sampled = feeder.execute(new=new, restores=restores, chunks=[chunk])
    for _ in range(TOKENS - 1):
        known.append(sampled[0].token_id)
        sampled = feeder.execute(chunks=[feeder.chunk(0, len(known) - 1, known[-1:], True)])
    return [*known[len(PROMPT) :], sampled[0].token_id]


def test_an_answer_from_restored_pages(model: Path, device: str) -> None:
    memory = Memory(geometry(model), parts=1)
    answer, copies = fill(make_runner(model, arena=memory, device=device))
    fresh = make_runner(model, arena=memory, device=device)
    assert answer_from(fresh, copies) == answer
    assert memory.gaps() == {0xEE}


def test_a_page_is_its_bytes(model: Path, device: str) -> None:
    memory = Memory(geometry(model), parts=1)
    runner = make_runner(model, arena=memory, device=device)
    _, copies = fill(runner)
    for copy in copies:
        page = runner.cache.storage[copy.page].cpu().contiguous().view(torch.uint8)
        assert memory.slot(copy.slot) == page.numpy().tobytes()


def test_a_step_may_only_copy(model: Path) -> None:
    memory = Memory(geometry(model), parts=1)
    runner = make_runner(model, arena=memory)
    _, copies = fill(runner)
    target = Feeder(runner)
    assert target.execute(restores=[Copy(0, copies[0].slot)]) == []
    assert torch.equal(runner.cache.storage[0], runner.cache.storage[copies[0].page])


def test_two_ranks_serve_from_what_one_filled(model: Path) -> None:
    """The same slots, split in two: kv head ranges are byte ranges."""
    memory = Memory(geometry(model), parts=1)
    answer, copies = fill(make_runner(model, arena=memory))
    split = Memory(geometry(model), parts=2)
    for copy in copies:
        page = memory.slot(copy.slot)
        for part in range(2):
            begin = copy.slot * split.part_stride
            own = page[part * split.part_bytes : (part + 1) * split.part_bytes]
            split.part_view(part)[begin : begin + split.part_bytes] = own

    def make(group: RankGroup) -> Runner:
        return make_runner(model, group=group, arena=split)

    assert led_ranks(2, make, lambda leader: answer_from(leader, copies))[0] == answer
