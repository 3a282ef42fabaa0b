"""Small random models, runners over them, and what transformers says of the same weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from kvtier_engine.config import (
    CacheConfig,
    Device,
    EngineConfig,
    L1Config,
    ModelConfig,
    ParallelConfig,
    SchedulerConfig,
)
from kvtier_engine.messages import SamplingParams
from kvtier_engine.model.gguf_convert import quiet_transformers
from kvtier_engine.model.spec import read_spec
from kvtier_engine.runner.copier import HostPages
from kvtier_engine.runner.distributed import RankGroup
from kvtier_engine.runner.runner import Runner
from kvtier_engine.runner.step import Chunk, NewSequence, Sampled, Step
from kvtier_engine.runner.worker import serve_steps

PAGE_TOKENS = 16
PAGES = 400
GREEDY = SamplingParams(max_tokens=64, temperature=0.0)

Result = TypeVar("Result")


def small_llama(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Writes a random Llama of three layers, 6 query and 2 kv heads, whose logits are of the
    size of a real model's; `changes` are LlamaConfig's."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": 515,
        "hidden_size": 96,
        "intermediate_size": 162,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 4096,
        "initializer_range": 0.1,
        "eos_token_id": 2,
    }
    with quiet_transformers():
        model = LlamaForCausalLM(LlamaConfig(**settings | changes))
        for name, values in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(values, std=0.1)
        model.save_pretrained(folder)
    return folder


def reference_logits(
    folder: Path, token_ids: Sequence[int], rows: Sequence[int] | None = None
) -> torch.Tensor:
    """transformers' float32 logits [rows or all, vocab] of a prompt, computed alone."""
    from transformers import AutoModelForCausalLM

    with quiet_transformers(), torch.inference_mode():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        keep = torch.arange(len(token_ids)) if rows is None else torch.tensor(rows)
        found = model(torch.tensor([list(token_ids)]), logits_to_keep=keep).logits[0]
    return torch.as_tensor(found)


def engine_config(folder: Path, run_dir: Path | None = None, **changes: Any) -> EngineConfig:
    """float32, two threads, PAGES pages of PAGE_TOKENS; `changes`: dtype, attention, device,
    tensor_parallel, page_tokens."""
    dtype = changes.pop("dtype", "float32")
    parallel = ParallelConfig(tensor_parallel=changes.pop("tensor_parallel", 1), threads_per_rank=2)
    cache = CacheConfig(
        geometry=read_spec(folder).geometry(dtype),
        page_tokens=changes.pop("page_tokens", PAGE_TOKENS),
        l1=L1Config(pages=PAGES),
    )
    return EngineConfig(
        model=ModelConfig(path=folder, served_name="small", dtype=dtype),
        cache=cache,
        parallel=parallel,
        scheduler=SchedulerConfig(max_context_tokens=4096),
        run_dir=run_dir or folder,
        **changes,
    )


def make_runner(
    folder: Path,
    *,
    group: RankGroup | None = None,
    arena: HostPages | None = None,
    **changes: Any,
) -> Runner:
    """A loaded Runner; `changes` as in engine_config."""
    group = group or RankGroup()
    config = engine_config(folder, tensor_parallel=group.size, **changes)
    runner = Runner(config, read_spec(folder), group, arena)
    runner.load(lambda done, total: None)
    return runner


def on_ranks(
    size: int, work: Callable[[RankGroup], Result], device: Device = "cpu"
) -> list[Result]:
    """Runs `work` on `size` ranks, each in a thread of this process; results in rank order."""
    with TemporaryDirectory() as folder, ThreadPoolExecutor(size) as pool:

        def run(rank: int) -> Result:
            with RankGroup.join(rank, size, Path(folder), device, timeout_s=60) as group:
                return work(group)

        return list(pool.map(run, range(size)))


class Leader:
    """Rank 0's runner, which sends each step to the other ranks first."""

    def __init__(self, runner: Runner, send: Callable[[Step | None], None]) -> None:
        self.runner = runner
        self.config = runner.config
        self.send = send

    def execute(self, step: Step) -> list[Sampled]:
        self.send(step)
        return self.runner.execute(step)


def led_ranks(
    size: int,
    make: Callable[[RankGroup], Runner],
    work: Callable[[Leader], Result],
    device: Device = "cpu",
) -> tuple[Result, torch.Tensor]:
    """Runs `work` on rank 0 and the ranks' loop on the others. Returns its result and L1,
    put together from the ranks' parts."""
    queues: list[SimpleQueue[Step | None]] = [SimpleQueue() for _ in range(1, size)]

    def send(step: Step | None) -> None:
        for queue in queues:
            queue.put(step)

    def run(group: RankGroup) -> tuple[Result | None, torch.Tensor]:
        runner = make(group)
        if group.rank > 0:
            serve_steps(queues[group.rank - 1].get, lambda number: None, runner)
            return None, runner.cache.storage
        try:
            return work(Leader(runner, send)), runner.cache.storage
        finally:
            send(None)

    found = on_ranks(size, run, device)
    result = found[0][0]
    assert result is not None
    return result, torch.cat([part.cpu() for _, part in found], dim=1)


class Feeder:
    """Gives a runner chunks of sequences, each with pages of its own, in any order."""

    def __init__(self, runner: Runner | Leader) -> None:
        self.runner = runner
        self.page_tokens = runner.config.cache.page_tokens
        self.tables: dict[int, list[int]] = {}
        # A stride that is no divisor of the pages' number: neighbours are not adjacent.
        self.free = [page * 7 % PAGES for page in range(PAGES)]
        self.number = 0

    def chunk(self, sequence: int, start: int, token_ids: Sequence[int], sample: bool) -> Chunk:
        table = self.tables.setdefault(sequence, [])
        needed = -(-(start + len(token_ids)) // self.page_tokens)
        table.extend(self.free.pop() for _ in range(needed - len(table)))
        return Chunk(sequence, start, list(token_ids), table[:needed], sample)

    def logits(self, prompts: Sequence[Sequence[int]], cuts: Sequence[int]) -> list[torch.Tensor]:
        """Each prompt's logits [tokens, vocab], all prompts in the same batches, of which one
        ends at each of `cuts` and the last at the longest prompt's end."""
        first = len(self.tables)
        pieces: list[list[torch.Tensor]] = [[] for _ in prompts]
        edges = [0, *cuts, max(map(len, prompts))]
        for start, end in itertools.pairwise(edges):
            live = [row for row, prompt in enumerate(prompts) if prompt[start:end]]
            chunks = [
                self.chunk(first + row, start, prompts[row][start:end], False) for row in live
            ]
            sizes = [len(chunk.token_ids) for chunk in chunks]
            assert isinstance(self.runner, Runner)
            logits = self.runner.forward(chunks, range(sum(sizes)))
            assert logits is not None
            for row, piece in zip(live, logits.clone().split(sizes), strict=True):
                pieces[row].append(piece.cpu())
        return [torch.cat(piece) for piece in pieces]

    def generate(
        self,
        sequence: int,
        prompt: Sequence[int],
        tokens: int,
        params: SamplingParams = GREEDY,
    ) -> list[int]:
        """The answer of `tokens` tokens to `prompt` alone."""
        new = [NewSequence(sequence, list(prompt), params)]
        known, start = list(prompt), 0
        for _ in range(tokens):
            chunk = self.chunk(sequence, start, known[start:], True)
            start = len(known)
            sampled = self.execute(new=new, chunks=[chunk])
            known.append(sampled[0].token_id)
            new = []
        self.execute(drop=[sequence])
        return known[len(prompt) :]

    def execute(self, **step: Any) -> list[Sampled]:
        self.number += 1
        return self.runner.execute(Step(number=self.number, **step))


def random_prompt(tokens: int, seed: int = 1, vocab: int = 515) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    found: list[int] = torch.randint(vocab, (tokens,), generator=generator).tolist()
    return found
