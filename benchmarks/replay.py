"""Hit rates of request traces through the real page store, by eviction policy and capacity.

    python benchmarks/replay.py TRACE.jsonl.gz ... [--percent 1,5,10] [--disk DIR]

A trace is in Mooncake's form: `input_length` tokens, and `hash_ids`, one for each block of the
prompt. Pages are a few bytes; a hit counts only if all pages before it hit. Capacity is in percent
of the trace's unique full blocks. Prints a table for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import hashlib
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import table

from kvtier_store import DirectorySpec, Eviction, Get, Put, Status, Store, StoreOptions, inspect

PAGE_BYTES = 16
HEAD = bytes(16)
POLICIES = (Eviction.LRU, Eviction.KEEP_REUSED)


@dataclass(frozen=True)
class Trace:
    name: str
    block_tokens: int
    chains: list[list[bytes]]  # keys of each request's full blocks
    tokens: int  # of all prompts

    @property
    def unique(self) -> int:
        return len({key for chain in self.chains for key in chain})


def read_trace(path: Path) -> Trace:
    with gzip.open(path, "rt") as lines:
        requests = [json.loads(line) for line in lines]
    first = next(each for each in requests if len(each["hash_ids"]) > 1)
    # The least power of two with which no prompt has more blocks than it is told to have.
    block = 1 << math.ceil(math.log2(first["input_length"] / len(first["hash_ids"])))
    chains = [
        [_key(number) for number in each["hash_ids"][: each["input_length"] // block]]
        for each in requests
    ]
    return Trace(path.name, block, chains, sum(each["input_length"] for each in requests))


def _key(number: int) -> bytes:
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()


def replay(trace: Trace, pages: int, eviction: Eviction, disk: Path) -> float:
    """The token hit rate."""
    with tempfile.TemporaryDirectory(dir=disk) as folder:
        store = _open(Path(folder), pages, eviction)
        memory = ctypes.create_string_buffer(PAGE_BYTES)
        pieces = [(ctypes.addressof(memory), PAGE_BYTES)]
        hits = sum(_request(store, chain, pieces) for chain in trace.chains)
        store.close()
    return hits * trace.block_tokens / trace.tokens


def _open(folder: Path, pages: int, eviction: Eviction) -> Store:
    """A store of just so many pages: what one of fewer takes tells what a page takes."""
    options = StoreOptions(eviction=eviction, reserve_bytes=0, commit_interval_s=3600)
    small, store = folder / "small", folder / "l3"
    Store.open([DirectorySpec(str(small), 1 << 22)], page_bytes=PAGE_BYTES, namespace=b"t").close()
    fitting = inspect(str(small)).fitting_capacity_bytes
    slot_bytes = 2 * 4096 + 256
    few = (1 << 22) // slot_bytes
    spec = DirectorySpec(str(store), fitting + (pages - few) * slot_bytes + slot_bytes * 64)
    opened = Store.open([spec], page_bytes=PAGE_BYTES, namespace=b"t", options=options)
    surplus = opened.stats().capacity_pages - pages
    opened.close()
    spec = DirectorySpec(str(store), spec.capacity_bytes - surplus * slot_bytes)
    opened = Store.open([spec], page_bytes=PAGE_BYTES, namespace=b"t", options=options)
    assert opened.stats().capacity_pages == pages
    return opened


def _request(store: Store, chain: list[bytes], pieces: list[tuple[int, int]]) -> int:
    """Reads the hits, writes the misses, then touches the chain tail first."""
    hits = store.longest_prefix(chain)
    if hits:
        store.submit_get([Get(0, key, pieces) for key in chain[:hits]])
        _wait(store, hits)
    for i in range(hits, len(chain)):
        store.submit_put([Put(0, chain[i], chain[i - 1] if i else HEAD, pieces, len(chain))])
        _wait(store, 1)
    store.touch(chain[::-1])
    return hits


def _wait(store: Store, count: int) -> None:
    while count:
        ended = store.wait(60)
        assert ended
        assert all(each.status in (Status.OK, Status.ALREADY_PRESENT) for each in ended)
        count -= len(ended)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="+", type=Path, metavar="TRACE")
    parser.add_argument("--percent", default="1,5,10", help="capacities; default: 1,5,10")
    parser.add_argument("--disk", type=Path, help="where the stores lie")
    arguments = parser.parse_args()
    percents = [float(each) for each in arguments.percent.split(",")]
    rows = []
    for path in arguments.traces:
        trace = read_trace(path)
        for policy in POLICIES:
            rates = [
                replay(trace, max(1, int(trace.unique * percent / 100)), policy, arguments.disk)
                for percent in percents
            ]
            rows.append([trace.name, policy.name.lower(), *(f"{rate:.3f}" for rate in rates)])
            print(rows[-1], flush=True)
    print(table(("trace", "policy", *(f"{percent:g} %" for percent in percents)), rows))


if __name__ == "__main__":
    main()
