"""Request traces in Mooncake's form, as chains of keys."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

Chain = list[bytes]


@dataclass(frozen=True)
class Trace:
    """`chains` are the full blocks of each request: a last block that is not full is never found,
    neither here nor by the engine."""

    name: str
    block_tokens: int
    chains: list[Chain]
    tokens: int  # of all prompts
    times: list[float] = field(
        default_factory=list
    )  # of arrival, in seconds; one apart where not told

    @cached_property
    def unique(self) -> int:
        return len(set(itertools.chain.from_iterable(self.chains)))

    def pages(self, percent: float) -> int:
        """A capacity in percent of the unique blocks."""
        return max(1, int(self.unique * percent / 100))

    def rate(self, hits: int) -> float:
        """The token hit rate of so many blocks."""
        return hits * self.block_tokens / self.tokens


def read_trace(path: Path, requests_max: int | None = None) -> Trace:
    """Each line has `input_length` tokens and `hash_ids`, one for each block of the prompt."""
    with gzip.open(path, "rt") as lines:
        requests = [json.loads(line) for line in itertools.islice(lines, requests_max)]
    first = next(each for each in requests if len(each["hash_ids"]) > 1)
    # The least power of two with which no prompt has more blocks than it is told to have.
    block = 1 << math.ceil(math.log2(first["input_length"] / len(first["hash_ids"])))
    chains = [
        [_key(number) for number in each["hash_ids"][: each["input_length"] // block]]
        for each in requests
    ]
    tokens = sum(each["input_length"] for each in requests)
    times = [each.get("timestamp", 1000 * i) / 1000 for i, each in enumerate(requests)]
    return Trace(path.name, block, chains, tokens, times)


def _key(number: int) -> bytes:
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()


def last_uses(chains: list[Chain]) -> list[set[bytes]]:
    """For each request the blocks of its chain that no later request has."""
    seen: set[bytes] = set()
    ended: list[set[bytes]] = []
    for chain in reversed(chains):
        ended.append(set(chain) - seen)
        seen.update(chain)
    return ended[::-1]
