"""Request traces in Mooncake's form, as chains of keys."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from kvtier_ops.simulate.trace import TraceOptions
from kvtier_ops.simulate.trace import read_trace as read_requests

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
    """As `kvtier simulate` reads it. Here a prompt's last block may be found even if the prompt
    ends with it."""
    read = read_requests(str(path), TraceOptions(requests_max=requests_max))
    requests = list(read)
    keys = [_key(block) for block in range(read.unique)]
    chains = [[keys[block] for block in request.chain] for request in requests]
    times = [request.arrival_s for request in requests]
    return Trace(path.name, read.block_tokens, chains, read.input_tokens, times)


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
