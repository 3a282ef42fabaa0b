"""What the benchmarks share: the machine's description, engines, prompts, tables."""

from __future__ import annotations

import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

if TYPE_CHECKING:
    from support.engine_process import EngineProcess  # found through the line above

MODEL = "smollm2-135m"


def describe_machine(command: str) -> str:
    """One paragraph that says where and how figures were taken."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _read("/proc/cpuinfo") if "model name" in line),
        platform.processor(),
    )
    flags = " ".join(_read("/proc/cpuinfo"))
    isa = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {name}" in flags]
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cpu}, {os.cpu_count()} cores ({', '.join(isa)}), {memory:.1f} GiB, Linux "
        f"{platform.release()}; Python {platform.python_version()}, torch {version('torch')}, "
        f"transformers {version('transformers')}, kvtier {commit}; load {os.getloadavg()[0]:.1f}; "
        f"`{command}`"
    )


def model_folder() -> Path:
    """The quickstart model's Hugging Face folder; pulled and converted if need be."""
    from kvtier_engine.model.gguf import convert

    kvtier = [sys.executable, "-P", "-m", "kvtier_ops", "model"]
    subprocess.run([*kvtier, "pull", MODEL], check=True, stdout=subprocess.DEVNULL)
    path = subprocess.check_output([*kvtier, "path", MODEL], text=True)
    return convert(Path(path.strip()), lambda done, total: None)


def noise(seed: int, tokens: int) -> list[int]:
    """A prompt that shares nothing with one of another seed."""
    return random.Random(seed).choices(range(1000, 40000), k=tokens)


def ttft(engine: EngineProcess, prompt: Sequence[int]) -> float:
    """Seconds until the first token has arrived, over HTTP."""
    body = {"model": MODEL, "prompt": list(prompt), "max_tokens": 1, "temperature": 0}
    start = time.perf_counter()
    response = engine.client.post("/v1/completions", json=body)
    elapsed = time.perf_counter() - start
    assert response.status_code == 200, response.text
    return elapsed


def drop_page_cache() -> bool:
    """Drops clean page cache, if we may."""
    os.sync()
    with suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return True
    return False


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Half the range over the median, in percent: how far to trust the median."""
    middle = median(values)
    return f"±{50 * (max(values) - min(values)) / middle:.0f}%"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _read(path: str) -> list[str]:
    with suppress(OSError):
        return Path(path).read_text().splitlines()
    return []
