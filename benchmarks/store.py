"""The page store against raw slots, against itself with other settings, and against other stores.

    python benchmarks/store.py [SECTION ...] [--disk DIR] [--quick] [--rounds N]

Prints the tables of docs/benchmarks.md. All sides of a table run in turns on one file system.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import describe_machine
from pagestore import depth, directories, fill, fio, huge, mixed, reopen, single, slots
from pagestore.peers import compare
from pagestore.scope import Scope

SECTIONS: dict[str, tuple[str, Callable[[Scope], str]]] = {
    "slots": ("Put and random get against raw slots", slots.run),
    "single": ("Single gets into memory that goes round", single.run),
    "mixed": ("Single gets beside writes at full rate", mixed.run),
    "depth": ("Reads at once, and by which engine", depth.run),
    "fill": ("Puts into growing, preallocated and recycled space", fill.run),
    "directories": ("Several directories as one store", directories.run),
    "peers": ("Beside other stores", compare.run),
    "reopen": ("Opening cold", reopen.run),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--disk", type=Path, help="where it measures; default: temporary folder")
    parser.add_argument("--quick", action="store_true", help="less of everything, to look around")
    parser.add_argument(
        "--plain", action="store_true", help="buffers on 4 KiB pages, not on huge ones (not: peers)"
    )
    parser.add_argument("--rounds", type=int, help="turns of each side")
    parser.add_argument(
        "--peers",
        type=Path,
        metavar="DIR",
        help="virtual environments lmcache, vllm and lightmem, for the stores that they have",
    )
    args = parser.parse_args()
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return args


def main() -> None:
    args = parse()
    # A polite kill takes the way of Ctrl-C, on which the files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    if not fio.available():
        sys.exit("fio is not there: install the package fio (apt-get install fio)")
    with tempfile.TemporaryDirectory(prefix="kvtier-bench-", dir=args.disk) as folder:
        scope = Scope.choose(Path(folder), args)
        if error := scope.room_error():
            sys.exit(error)
        print(describe_machine(" ".join(["python", "benchmarks/store.py", *sys.argv[1:]])))
        memory = "huge" if scope.huge else "4 KiB"
        print(
            f"Medians of {scope.rounds} rounds, in turns; GB/s of payload; {memory} memory pages."
        )
        for name in args.sections or SECTIONS:
            title, run = SECTIONS[name]
            print(f"\n### {title}\n\n{run(scope)}", flush=True)
        if huge.refused:
            print("\nThe kernel gave the store's buffers no huge pages, or not enough of them.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped")
