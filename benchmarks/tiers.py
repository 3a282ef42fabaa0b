"""Time to first token of one long prompt: cold, and from L1, L2 and L3.

python benchmarks/tiers.py [--tokens N] [--page-tokens N] [--rounds N] [--disk DIR]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from harness import (
    describe_machine,
    drop_page_cache,
    median,
    model_folder,
    noise,
    spread,
    table,
    ttft,
)
from support.engine_process import arena_memory, engine_config, running_engine, short_run_dir

from kvtier_engine.config import EngineConfig

ADMIN_KEY = "KVTIER_BENCH_KEY"


def configure(
    folder: Path, run_dir: Path, disk: Path, tokens: int, page_tokens: int
) -> EngineConfig:
    pages = (tokens + 2560) // page_tokens
    return engine_config(
        folder,
        run_dir,
        model__dtype="bfloat16",
        parallel__threads_per_rank=os.cpu_count() or 1,
        cache__page_tokens=page_tokens,
        cache__l1__pages=2 * pages,
        cache__l2__pages=6 * pages,
        cache__l3__directories=[{"path": str(disk), "capacity_bytes": 8 << 30}],
        scheduler__max_context_tokens=8192,
        server__admin_key={"env": ADMIN_KEY},
    )


def measure(config: EngineConfig, tokens: int, seed: int) -> dict[str, float]:
    """One prompt through all tiers. L2 is reached by emptying L1, and by restarting the engine with
    the launcher's memory, whose pages are checked before they are used; L3 by restarting it
    without."""
    prompt = noise(seed, tokens)
    page_tokens = config.cache.page_tokens
    other = noise(seed + 1, 512)  # wakes everything up, and shares nothing
    times = {}
    with arena_memory() as memory:
        with running_engine(config, memory) as engine:
            ttft(engine, other)
            times["cold"] = ttft(engine, prompt)
            engine.wait_idle()
            times["L1"] = ttft(engine, prompt)
            cleared = engine.client.post(
                "/admin/cache/clear",
                json={"tier": "l1"},
                headers={"Authorization": f"Bearer {os.environ[ADMIN_KEY]}"},
            )
            assert cleared.status_code == 200, cleared.text
            times["L2"] = ttft(engine, prompt)
            assert engine.metric("hit_tokens_total", tier="l2") > tokens - page_tokens
        with running_engine(config, memory) as engine:
            ttft(engine, other)
            times["L2, restarted"] = ttft(engine, prompt)
            assert engine.metric("hit_tokens_total", tier="l2") > tokens - page_tokens
    with running_engine(config) as engine:
        ttft(engine, other)
        drop_page_cache()
        times["L3"] = ttft(engine, prompt)
        assert engine.metric("hit_tokens_total", tier="l3") > tokens - page_tokens
    return times


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=6000)
    parser.add_argument("--page-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--disk", type=Path, help="where L3 is put; default: the temporary folder")
    args = parser.parse_args()
    folder = model_folder()
    os.environ[ADMIN_KEY] = "key-of-this-benchmark"
    with short_run_dir() as run_dir, tempfile.TemporaryDirectory(dir=args.disk) as disk_folder:
        disk = Path(disk_folder) / "l3"
        config = configure(folder, run_dir, disk, args.tokens, args.page_tokens)
        runs = [measure(config, args.tokens, 1000 * turn) for turn in range(args.rounds)]
        megabytes = config.cache.geometry.token_bytes * args.tokens / 1e6
    print(describe_machine("python benchmarks/tiers.py"))
    print(
        f"TTFT of {args.tokens} tokens ({megabytes:.0f} MB of KV) in pages of {args.page_tokens},"
    )
    print(f"bf16, {args.rounds} rounds\n")
    rows = []
    for place in ("cold", "L1", "L2", "L2, restarted", "L3"):
        seconds = [run[place] for run in runs]
        share = median([run[place] / run["cold"] for run in runs])
        rows.append([place, f"{median(seconds):.3f}", spread(seconds), f"{share:.4f}"])
    print(table(["KV from", "TTFT s", "spread", "of cold"], rows))


if __name__ == "__main__":
    main()
