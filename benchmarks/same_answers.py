"""Is the greedy answer in bf16 the same wherever the prompt's KV comes from?

Asks 100 natural prompts (docstrings of the standard library) for 64 tokens: cold, from
L1, from L2 (an engine that adopts the launcher's memory) and from L3 (a new one).

python benchmarks/same_answers.py [--prompts N] [--concurrent N] [--attention BACKEND]
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import describe_machine, model_folder, table
from support.engine_process import (
    EngineProcess,
    arena_memory,
    engine_config,
    running_engine,
    short_run_dir,
)
from transformers import AutoTokenizer

PAGE_TOKENS = 64
Answers = list[tuple[str, int]]  # text, cached tokens


def natural_prompts(folder: Path, count: int) -> list[list[int]]:
    """Questions about documentation, 2 to 9 pages long, none a prefix of another."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = []
    for name, text in documentation():
        question = f"Explain in your own words what this documentation of {name} says.\n\n{text}"
        ids = tokenizer(question)["input_ids"][: 9 * PAGE_TOKENS]
        if len(ids) > 2 * PAGE_TOKENS:
            prompts.append(ids)
    if len(prompts) < count:
        raise SystemExit(f"only {len(prompts)} pieces of documentation are long enough")
    return prompts[:count]


def documentation() -> Iterator[tuple[str, str]]:
    """Docstrings of the standard library's modules and their public classes, by name."""
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or name in ("antigravity", "this", "idlelib"):
            continue
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        yield name, module.__doc__ or ""
        for member, value in sorted(vars(module).items()):
            if member[0] != "_" and inspect.isclass(value) and value.__module__ == name:
                yield f"{name}.{member}", value.__doc__ or ""


def ask_all(engine: EngineProcess, prompts: list[list[int]], concurrent: int) -> Answers:
    def ask(prompt: list[int]) -> tuple[str, int]:
        answer = engine.complete(prompt, tokens=64)
        usage = answer["usage"]["prompt_tokens_details"]
        return answer["choices"][0]["text"], usage["cached_tokens"]

    with ThreadPoolExecutor(concurrent) as pool:
        answers = list(pool.map(ask, prompts))
    engine.wait_idle()
    return answers


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--concurrent", type=int, default=1)
    parser.add_argument("--attention", default="auto")
    args = parser.parse_args()
    folder = model_folder()
    warnings.simplefilter("ignore", DeprecationWarning)  # of the modules whose text is read
    prompts = natural_prompts(folder, args.prompts)
    results: dict[str, Answers] = {}
    with (
        short_run_dir() as run_dir,
        tempfile.TemporaryDirectory() as disk,
        arena_memory() as memory,
    ):
        config = engine_config(
            folder,
            run_dir,
            model__dtype="bfloat16",
            attention=args.attention,
            parallel__threads_per_rank=os.cpu_count() or 1,
            cache__l1__pages=12 * args.prompts,
            cache__l2__pages=12 * args.prompts,
            cache__l3__directories=[{"path": f"{disk}/l3", "capacity_bytes": 8 << 30}],
        )
        with running_engine(config, memory) as engine:
            results["cold"] = ask_all(engine, prompts, 1)
            results["L1"] = ask_all(engine, prompts, args.concurrent)
        with running_engine(config, memory) as engine:
            results["L2"] = ask_all(engine, prompts, args.concurrent)
        with running_engine(config) as engine:
            results["L3"] = ask_all(engine, prompts, args.concurrent)
    print(describe_machine("python benchmarks/same_answers.py"))
    print(f"{args.prompts} prompts, 64 greedy tokens, {args.concurrent} at once after cold\n")
    rows = []
    for place in ("L1", "L2", "L3"):
        same = sum(a[0] == b[0] for a, b in zip(results[place], results["cold"], strict=True))
        cached = sum(tokens > 0 for _, tokens in results[place])
        rows.append([place, f"{same} of {args.prompts}", f"{cached} of {args.prompts}"])
    print(table(["KV from", "same answer as cold", "prompts with hits"], rows))


if __name__ == "__main__":
    main()
