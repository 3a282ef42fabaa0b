"""Time to first token of prompts that lie on disks of any speed: loaded, computed, or both at once.

    python benchmarks/restore.py [--lengths N,N] [--speeds MB/s,MB/s] [--rounds N]
                                 [--plot FILE.png] [--disk DIR]

The disk is slowed down by throttle.c. For each speed and length: the whole prompt computed, the
whole prompt loaded (`compute_while_loading` off), and kvtier's choice. The bar: never more than
1.05 times the better of the two.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import describe_machine, drop_page_cache, median, model_folder, noise, table, ttft
from support.engine_process import engine_config, running_engine, short_run_dir
from throttle import Throttle

from kvtier_engine.config import EngineConfig

LENGTHS = (512, 1024, 2048, 4096, 6000)
SPEEDS = "4,8,16,32,100,0"
BAR = 1.05
WARM_UP = 10**6  # seeds of prompts that share nothing with those that count
HEADER = ("disk", "tokens", "computed s", "loaded s", "kvtier s", "of the better", "pages computed")

Point = tuple[float, int]  # bytes/s, tokens


@dataclass
class Times:
    """Seconds, one for each round."""

    computed: dict[int, list[float]] = field(default_factory=dict)
    loaded: dict[Point, list[float]] = field(default_factory=dict)
    both: dict[Point, list[float]] = field(default_factory=dict)
    pages: dict[Point, list[float]] = field(default_factory=dict)  # computed, of those on disk


PROBE_TOKENS = 512  # of a prompt on disk by which an engine learns how fast that is


def prompts(turn: int, lengths: Sequence[int]) -> dict[int, list[int]]:
    return {tokens: noise(100 * turn + i, tokens) for i, tokens in enumerate(lengths)}


def probe(turn: int) -> list[int]:
    return noise(100 * turn + 99, PROBE_TOKENS)


class Sweep:
    def __init__(self, folder: Path, run_dir: Path, work: Path, lengths: Sequence[int]) -> None:
        self.lengths = lengths
        self.disk = work / "l3"
        self.throttle = Throttle(work)
        self.config = engine_config(
            folder,
            run_dir,
            model__dtype="bfloat16",
            parallel__threads_per_rank=os.cpu_count() or 1,
            cache__l1__pages=600,
            cache__l2__pages=1200,
            cache__l3__directories=[{"path": str(self.disk), "capacity_bytes": 8 << 30}],
            scheduler__max_context_tokens=8192,
        )
        self.times = Times()

    def run(self, rounds: int, speeds: Sequence[float]) -> None:
        for turn in range(rounds):
            self._compute(turn)
        for speed in speeds:
            for turn in range(rounds):
                for meets in (True, False):
                    self._load(turn, speed, meets)

    def _compute(self, turn: int) -> None:
        """Computes what will be on disk; the times are those of recomputing."""
        self.throttle.set(0, self.disk, 0)
        with running_engine(self.config) as engine:
            ttft(engine, noise(WARM_UP, 512))
            ttft(engine, probe(turn))
            for tokens, prompt in prompts(turn, self.lengths).items():
                self.times.computed.setdefault(tokens, []).append(ttft(engine, prompt))
            engine.wait_idle()

    def _load(self, turn: int, speed: float, meets: bool) -> None:
        with running_engine(
            self._configured(meets), environment=self.throttle.environment
        ) as engine:
            ttft(engine, noise(WARM_UP + 1, 1024))  # who serves knows the rate of prefill
            self.throttle.set(0, self.disk, speed)
            drop_page_cache()
            ttft(engine, probe(turn))  # and so is the disk's
            for tokens, prompt in prompts(turn, self.lengths).items():
                point = (speed, tokens)
                before = engine.metric("computed_instead_of_loaded_pages_total")
                times = self.times.both if meets else self.times.loaded
                times.setdefault(point, []).append(ttft(engine, prompt))
                pages = engine.metric("computed_instead_of_loaded_pages_total") - before
                if meets:
                    self.times.pages.setdefault(point, []).append(pages)
            self.throttle.set(0, self.disk, 0)

    def _configured(self, meets: bool) -> EngineConfig:
        l3 = self.config.cache.l3.model_copy(update={"compute_while_loading": meets})
        cache = self.config.cache.model_copy(update={"l3": l3})
        return self.config.model_copy(update={"cache": cache})


def rows(times: Times) -> list[list[str]]:
    made = []
    for point, both in times.both.items():
        speed, tokens = point
        computed, loaded = median(times.computed[tokens]), median(times.loaded[point])
        share = median(both) / min(computed, loaded)
        figures = [f"{seconds:.2f}" for seconds in (computed, loaded, median(both))]
        shown = f"{share:.2f}" if share <= BAR else f"**{share:.2f}**"
        disk = f"{speed / 1e6:.0f} MB/s" if speed else "as it is"
        made.append([disk, str(tokens), *figures, shown, f"{median(times.pages[point]):.0f}"])
    return made


def plot(times: Times, lengths: Sequence[int], speeds: Sequence[float], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        1, len(lengths), figsize=(3.4 * len(lengths), 3.6), sharex=True, squeeze=False
    )
    axes = grid[0]
    slowed = [speed for speed in speeds if speed]
    for axis, tokens in zip(axes, lengths, strict=True):
        mb_per_s = [speed / 1e6 for speed in slowed]
        for name, found in (("loaded", times.loaded), ("kvtier", times.both)):
            axis.plot(mb_per_s, [median(found[s, tokens]) for s in slowed], "o-", label=name)
        axis.axhline(median(times.computed[tokens]), color="gray", label="computed")
        axis.set(xscale="log", yscale="log", title=f"{tokens} tokens", xlabel="disk, MB/s")
    axes[0].set_ylabel("time to first token, s")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--disk", type=Path, help="where L3 is put; default: the temporary folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="in tokens")
    parser.add_argument("--speeds", default=SPEEDS, help="in MB/s; 0: the disk's own")
    parser.add_argument("--plot", type=Path, help="a PNG of the table")
    args = parser.parse_args()
    lengths = [int(tokens) for tokens in args.lengths.split(",")]
    speeds = [float(speed) * 1e6 for speed in args.speeds.split(",")]
    folder = model_folder()
    with short_run_dir() as run_dir, tempfile.TemporaryDirectory(dir=args.disk) as work:
        sweep = Sweep(folder, run_dir, Path(work), lengths)
        sweep.run(args.rounds, speeds)
    print(describe_machine("python benchmarks/restore.py"))
    print(f"SmolLM2-135M in bf16, medians of {args.rounds} rounds; page cache dropped\n")
    print(table(HEADER, rows(sweep.times)))
    if args.plot:
        plot(sweep.times, lengths, speeds, args.plot)


if __name__ == "__main__":
    main()
