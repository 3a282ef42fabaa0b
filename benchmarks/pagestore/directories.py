"""Several directories as one store: whether their throughput adds up, also of unequal disks.

This machine has one disk, so each directory gets the rate of a slower one (throttle.c), and all
of them together stay below what the disk does. Run by itself it is the throttled process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import median, table
from throttle import Throttle

from pagestore.client import Client
from pagestore.scope import Scope
from pagestore.turn import MIB

PAGE_BYTES = 1 * MIB
DEPTH = 32
SLOTS = 128  # of each directory
BENCHMARKS = Path(__file__).resolve().parents[1]
SIDES: dict[str, tuple[int, ...]] = {  # MB/s of each directory
    "one": (200,),
    "two alike": (200, 200),
    "three alike": (200, 200, 200),
    "two unlike": (200, 400),
}
HEADER = ("directories", "MB/s each", "sum", "put MB/s", "of the sum", "get MB/s", "of the sum")


def run(scope: Scope) -> str:
    rates: dict[str, list[list[float]]] = {name: [] for name in SIDES}
    for _ in range(scope.rounds):
        for name, limits in SIDES.items():
            rates[name].append(_turn(scope, limits))
    return table(HEADER, [_row(name, rates[name]) for name in SIDES])


def _row(name: str, turns: list[list[float]]) -> list[str]:
    limits = SIDES[name]
    total = sum(limits)
    puts, gets = (median([turn[kind] for turn in turns]) for kind in (0, 1))
    each = " + ".join(map(str, limits))
    shares = (f"{rate / total:.2f}" for rate in (puts, gets))
    return [name, each, str(total), f"{puts:.0f}", next(shares), f"{gets:.0f}", next(shares)]


def _turn(scope: Scope, limits: tuple[int, ...]) -> list[float]:
    """MB/s of puts into full directories, and of gets at random."""
    with tempfile.TemporaryDirectory(dir=scope.folder) as name:
        folder = Path(name)
        throttle = Throttle(folder)
        for number, rate in enumerate(limits):
            (folder / str(number)).mkdir(mode=0o700)
            throttle.set(number, folder / str(number), rate * 1e6)
        done = subprocess.run(
            [sys.executable, "-m", "pagestore.directories", name, str(len(limits))],
            cwd=BENCHMARKS,
            env=os.environ | throttle.environment,
            check=True,
            capture_output=True,
            text=True,
        )
    return list(map(float, json.loads(done.stdout)))


def throttled(folder: Path, directories: int) -> list[float]:
    client = Client([folder / str(i) for i in range(directories)], PAGE_BYTES, SLOTS)
    client.fill()
    client.fill()  # the first time a slower disk is not full yet when the others are
    turns = [client.put(SLOTS * directories, DEPTH), client.get(SLOTS * directories, DEPTH)]
    client.close()
    return [turn.gb_per_s * 1e3 for turn in turns]


if __name__ == "__main__":
    print(json.dumps(throttled(Path(sys.argv[1]), int(sys.argv[2]))))
