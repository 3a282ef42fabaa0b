"""Hit rates of request traces, by eviction policy and capacity, or by admission to the disk.

    python benchmarks/replay.py TRACE.jsonl.gz ... [--percent 1,5,10] [--rows books,simulator]
    python benchmarks/replay.py TRACE.jsonl.gz ... --percent 1,2,5 --rows admission

A trace is in Mooncake's form: `input_length` tokens, and `hash_ids`, one for each block of the
prompt. A hit counts only if all pages before it hit. Capacity is in percent of the trace's unique
full blocks. Each row comes from the engine's own bookkeeping of L1 or L2 (`books`), from the real
page store (`store`, slow), or from a simulator that shares nothing with either. Rows of
`admission` are of another kind: L2 of so many percent and L3 of 5 and 10 times that, written by
the engine's own saver under `tiers.l3.admission: all` and `auto`. Prints a table for
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import table
from tracereplay.admission import admission_outcome
from tracereplay.books import L1Books, L2Books, books_hits, hinted_hits
from tracereplay.native import store_hits
from tracereplay.simulator import arc_hits, hinted_lru_hits, lru_hits, min_hits
from tracereplay.trace import Trace, read_trace

from kvtier_store import Eviction

SOURCES = ("books", "store", "simulator")
L3_SIZES = (5, 10)  # times L2
Row = tuple[str, Callable[[int], int]]  # its name, and the hits of a capacity in pages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="+", type=Path, metavar="TRACE")
    parser.add_argument("--percent", default="1,5,10", help="capacities; default: 1,5,10")
    parser.add_argument(
        "--rows",
        default=",".join(SOURCES),
        help="where from, or `admission` alone; default: %(default)s",
    )
    parser.add_argument("--requests", type=int, help="so many of each trace")
    parser.add_argument("--disk", type=Path, help="where the stores lie")
    arguments = parser.parse_args()
    percents = [float(each) for each in arguments.percent.split(",")]
    if arguments.rows == "admission":
        print_admission(arguments.traces, percents, arguments.requests)
        return
    sources = {
        "books": books_rows,
        "store": lambda trace: store_rows(trace, arguments.disk),
        "simulator": simulator_rows,
    }
    lines = []
    for path in arguments.traces:
        trace = read_trace(path, arguments.requests)
        for source in arguments.rows.split(","):
            for name, hits in sources[source](trace):
                rates = [trace.rate(hits(trace.pages(percent))) for percent in percents]
                lines.append([trace.name, source, name, *(f"{rate:.3f}" for rate in rates)])
                print(lines[-1], flush=True)
    print(table(("trace", "from", "policy", *(f"{percent:g} %" for percent in percents)), lines))


def print_admission(paths: list[Path], percents: list[float], requests: int | None) -> None:
    lines = []
    for path in paths:
        trace = read_trace(path, requests)
        for percent, times in itertools.product(percents, L3_SIZES):
            lines.append(
                [
                    trace.name,
                    f"{percent:g} %",
                    f"{times} x",
                    *admission_cells(trace, percent, times),
                ]
            )
            print(lines[-1], flush=True)
    print(
        table(
            ("trace", "L2", "L3", "all", "auto", "points", "all writes", "auto writes", "saved"),
            lines,
        )
    )


def admission_cells(trace: Trace, percent: float, times: int) -> list[str]:
    everything = admission_outcome(trace, percent, times, is_choosy=False)
    auto = admission_outcome(trace, percent, times, is_choosy=True)
    rates = [trace.rate(each.hits) for each in (everything, auto)]
    return [
        *(f"{rate:.3f}" for rate in rates),
        f"{100 * (rates[1] - rates[0]):+.2f}",
        *(f"{each.written:,}" for each in (everything, auto)),
        f"{1 - auto.written / max(1, everything.written):.0%}",
    ]


def books_rows(trace: Trace) -> Iterator[Row]:
    chains = trace.chains
    for tier, books in (("L1", L1Books), ("L2", L2Books)):
        yield f"{tier} lru", lambda pages, make=books: books_hits(chains, make(pages, "lru"))
        yield f"{tier} arc", lambda pages, make=books: books_hits(chains, make(pages, "arc"))
        yield (
            f"{tier} arc, chains not put in order",
            lambda pages, make=books: books_hits(chains, make(pages, "arc"), reorder=False),
        )
    yield "L2 lru, told which pages are used no more", lambda pages: hinted_hits(chains, pages)


def store_rows(trace: Trace, disk: Path | None) -> Iterator[Row]:
    for each in (Eviction.LRU, Eviction.KEEP_REUSED):
        yield (
            each.name.lower(),
            lambda pages, policy=each: store_hits(trace.chains, pages, policy, disk),
        )


def simulator_rows(trace: Trace) -> Iterator[Row]:
    chains = trace.chains
    yield "lru", lambda pages: lru_hits(chains, [pages])[0]
    yield "arc", lambda pages: arc_hits(chains, pages, reorder=True)
    yield (
        "arc, chains not put in order",
        lambda pages: arc_hits(chains, pages, reorder=False),
    )
    yield (
        "lru, told which pages are used no more",
        lambda pages: hinted_lru_hits(chains, pages),
    )
    yield "min, the optimum", lambda pages: min_hits(chains, pages)


if __name__ == "__main__":
    main()
