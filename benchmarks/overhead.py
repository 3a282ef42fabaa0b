"""What the tiers cost where there is nothing to hit: all of them on against all of them off.

python benchmarks/overhead.py [--rounds N] [--disk DIR]

Two engines side by side are asked in turns. Every prompt is new. With the tiers on, L2 is so small
that pages are written to the disk all the time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import describe_machine, median, model_folder, noise, spread, table
from support.engine_process import EngineProcess, engine_config, running_engine, short_run_dir

# (prompts at once, tokens of each, tokens of each answer)
WORKLOADS = {
    "prefill: 1 x 2,048 + 1": (1, 2048, 1),
    "chat: 4 x 512 + 64": (4, 512, 64),
    "decode: 8 x 64 + 128": (8, 64, 128),
}
L1_PAGES, L2_PAGES = 160, 96


def settings(disk: Path) -> dict[str, dict[str, Any]]:
    directory = {"path": str(disk), "capacity_bytes": 4 << 30}
    return {
        "off": {"cache__prefix_reuse": False},
        "on": {"cache__l2__pages": L2_PAGES, "cache__l3__directories": [directory]},
    }


def tokens_per_s(engine: EngineProcess, workload: tuple[int, int, int], seed: int) -> float:
    at_once, prompt, answer = workload
    prompts = [noise(seed + i, prompt) for i in range(at_once)]
    begun = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda each: engine.complete(each, tokens=answer), prompts))
    return at_once * (prompt + answer) / (time.perf_counter() - begun)


def measure(engines: dict[str, EngineProcess], rounds: int) -> list[list[str]]:
    rows, seed = [], 10_000
    for name, workload in WORKLOADS.items():
        rates: dict[str, list[float]] = {"off": [], "on": []}
        for turn in range(-1, rounds):  # the first one warms up
            order = ("off", "on") if turn % 2 else ("on", "off")
            for which in order:
                rate = tokens_per_s(engines[which], workload, seed)
                seed += 100
                if turn >= 0:
                    rates[which].append(rate)
        ratios = [on / off for on, off in zip(rates["on"], rates["off"], strict=True)]
        row = [name, *(f"{median(rates[which]):.0f}" for which in ("off", "on"))]
        rows.append([*row, f"{median(ratios):.3f}", spread(ratios)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--disk", type=Path, help="where L3 is put; default: the temporary folder")
    args = parser.parse_args()
    folder = model_folder()
    with short_run_dir() as runs, tempfile.TemporaryDirectory(dir=args.disk) as disk:
        off, on = (
            engine_config(
                folder,
                runs / name,
                model__dtype="bfloat16",
                parallel__threads_per_rank=os.cpu_count() or 1,
                cache__l1__pages=L1_PAGES,
                scheduler__max_context_tokens=4096,
                **fields,
            )
            for name, fields in settings(Path(disk) / "l3").items()
        )
        with running_engine(off) as without, running_engine(on) as tiers:
            rows = measure({"off": without, "on": tiers}, args.rounds)
            hits = tiers.metric("hit_tokens_total")
            saved, evicted = tiers.metric("saved_pages_total"), tiers.metric("evicted_pages_total")
    print(describe_machine("python benchmarks/overhead.py"))
    print(f"bf16, {args.rounds} rounds; {hits:g} tokens hit, {evicted:g} pages evicted, {saved:g}")
    print("written to disk\n")
    print(table(["workload", "off tokens/s", "on tokens/s", "on / off", "spread"], rows))


if __name__ == "__main__":
    main()
