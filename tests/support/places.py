"""Where the pages of a prompt are, in a FakeEngine."""

from __future__ import annotations

from typing import Any

from kvtier_engine.kv.keys import root_key
from support.fake_engine import FakeEngine, Sizes

LONG = list(range(20))  # five pages, of which four can be found again
ROOT = root_key(b"n" * 16)


def engine(**sizes: Any) -> FakeEngine:
    return FakeEngine(Sizes(**{"l1": 40, "l2": 40, **sizes}))


def keys_of(made: FakeEngine, tokens: list[int]) -> list[bytes]:
    chain = made.manager.new_sequence(ROOT).chain
    chain.extend(tokens)
    return chain.keys


def where(made: FakeEngine, tokens: list[int]) -> dict[str, int]:
    """How many pages of `tokens` each tier has."""
    keys = keys_of(made, tokens)
    assert made.host is not None
    assert made.store is not None
    return {
        "l1": sum(made.pool.find(key) is not None for key in keys),
        "l2": sum(made.host.find(key) is not None for key in keys),
        "l3": sum(key in made.store.pages for key in keys),
    }


def everywhere(pages: int) -> dict[str, int]:
    return dict.fromkeys(("l1", "l2", "l3"), pages)


def only_in_l1(made: FakeEngine, keys: list[bytes]) -> None:
    assert made.host is not None
    assert made.store is not None
    for key in keys:
        made.host.drop(key)
        del made.store.pages[key]
