"""A chain's pages lie next to one another on disk where they can: a run is one sequential read."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.store_client import key, open_store, put

from kvtier_store import Store, inspect


def neighbours(folder: Path, chains: Sequence[Sequence[int]]) -> float:
    """Of the pages whose parent is there too, how many lie next to it."""
    slot_of = {page.key: page.slot for page in inspect(str(folder)).pages}
    pairs = [
        abs(slot_of[key(page)] - slot_of[key(parent)])
        for chain in chains
        for parent, page in itertools.pairwise(chain)
        if key(page) in slot_of and key(parent) in slot_of
    ]
    return sum(distance == 1 for distance in pairs) / len(pairs)


def write(store: Store, chain: Sequence[int], *, tail_first: bool) -> None:
    """As L2 evicts it, tail first, or as it was computed."""
    for page in reversed(chain) if tail_first else chain:
        put(store, page, None if page == chain[0] else page - 1)
    use(store, chain)


def use(store: Store, chain: Sequence[int]) -> None:
    store.touch([key(page) for page in reversed(chain)])


@pytest.mark.parametrize("tail_first", [True, False])
def test_in_a_new_store_all_and_after_eight_fills_most(tmp_path: Path, tail_first: bool) -> None:
    rng = random.Random(1)
    store = open_store(tmp_path, pages=200)
    chains: list[range] = []

    def add(pages: int) -> None:
        begin = chains[-1].stop if chains else 0
        chains.append(range(begin, begin + pages))
        write(store, chains[-1], tail_first=tail_first)

    while not chains or chains[-1].stop < 160:
        add(rng.randint(5, 20))
    store.flush()
    assert neighbours(tmp_path, chains) == 1.0
    while chains[-1].stop < 1600:
        add(rng.randint(5, 20))
        use(store, rng.choice(chains[-15:]))
    store.flush()
    assert store.stats().evicted > 1000
    assert neighbours(tmp_path, chains) > 0.5
    store.close()
