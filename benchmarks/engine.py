"""Prefill and decode against transformers' generate: same weights, dtype, threads, one run.

python benchmarks/engine.py [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from harness import describe_machine, median, model_folder, noise, spread, table, ttft
from support.engine_process import EngineProcess, engine_config, running_engine, short_run_dir
from transformers import AutoModelForCausalLM

PREFILL_TOKENS = (512, 2048, 6000)
CONCURRENT = (1, 4, 8, 16)
DECODE_PROMPT, DECODE_ANSWER = 128, 64
THREADS = os.cpu_count() or 1


class Peer:
    """transformers' generate, with the weights that the engine has."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(THREADS)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)

    def generate(self, prompts: list[list[int]], tokens: int) -> float:
        """Seconds for `tokens` greedy tokens after each prompt."""
        ids = torch.tensor(prompts)
        start = time.perf_counter()
        self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return time.perf_counter() - start

    def decode(self, prompts: list[list[int]]) -> float:
        """Tokens a second while all are in flight, without the prompts."""
        first = self.generate(prompts, 1)
        whole = self.generate(prompts, DECODE_ANSWER)
        return len(prompts) * (DECODE_ANSWER - 1) / (whole - first)


def engine_decode(engine: EngineProcess, prompts: list[list[int]]) -> float:
    """Tokens a second of concurrent requests, without the prompts (asked for once before,
    so that they come from L1)."""
    with ThreadPoolExecutor(len(prompts)) as pool:
        list(pool.map(lambda p: engine.complete(p, tokens=1), prompts))
        start = time.perf_counter()
        list(pool.map(lambda p: engine.complete(p, tokens=1), prompts))
        first = time.perf_counter() - start
        start = time.perf_counter()
        list(pool.map(lambda p: engine.complete(p, tokens=DECODE_ANSWER), prompts))
        whole = time.perf_counter() - start
    return len(prompts) * (DECODE_ANSWER - 1) / (whole - first)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    folder = model_folder()
    peer = Peer(folder)
    rows = []
    with short_run_dir() as run_dir:
        config = engine_config(
            folder,
            run_dir,
            model__dtype="bfloat16",
            parallel__threads_per_rank=THREADS,
            cache__l1__pages=512,
            scheduler__max_context_tokens=8192,
        )
        with running_engine(config) as engine:
            for tokens in PREFILL_TOKENS:
                ours, theirs = [], []
                for turn in range(rounds):
                    prompt = noise(tokens * 100 + turn, tokens)
                    ours.append(tokens / ttft(engine, prompt))
                    theirs.append(tokens / peer.generate([prompt], 1))
                rows.append(_row(f"prefill {tokens}", ours, theirs))
            for count in CONCURRENT:
                ours, theirs = [], []
                for turn in range(rounds):
                    seeds = range(
                        10**6 * (turn + 1) + 100 * count, 10**6 * (turn + 1) + 101 * count
                    )
                    prompts = [noise(seed, DECODE_PROMPT) for seed in seeds]
                    ours.append(engine_decode(engine, prompts))
                    theirs.append(peer.decode(prompts))
                rows.append(_row(f"decode at {count}", ours, theirs))
    print(describe_machine("python benchmarks/engine.py"))
    print(f"bf16, {THREADS} threads, medians of {rounds} interleaved rounds, tokens/s\n")
    print(table(["", "kvtier", "transformers generate", "ratio"], rows))


def _row(name: str, ours: list[float], theirs: list[float]) -> list[str]:
    ratio = median([a / b for a, b in zip(ours, theirs, strict=True)])
    return [
        name,
        f"{median(ours):.0f} {spread(ours)}",
        f"{median(theirs):.0f} {spread(theirs)}",
        f"{ratio:.2f}",
    ]


if __name__ == "__main__":
    main()
