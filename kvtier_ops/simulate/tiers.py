"""L1, L2 and L3 at planned sizes, request by request, under the engine's own policies.

As in the engine: what a request uses becomes the most recent in every tier; what was found on disk
comes to L2 and L1, as does what is computed; a chain is put in order, tail first, at its end. The
tiers include one another where a lower one is larger. Requests come one after another: what they
hold in L1 beyond their full pages, while several run at a time, is not simulated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kvtier_engine.config import MemoryEviction
from kvtier_engine.kv.policy import make_policy
from kvtier_ops.simulate.disk import DiskSizes, SimulatedDisk, Traffic
from kvtier_ops.simulate.lines import REPORT_EVERY, Report, no_report
from kvtier_ops.simulate.setup import Setup
from kvtier_ops.simulate.trace import Request, Trace

_MIXER = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: numbers in a row lie far apart


class Found(NamedTuple):
    """Leading blocks of a request, each counted in the highest tier that has it; and how many lead
    in L1 alone, and in L1 and L2: what a cache without the tiers below would find."""

    l1: int
    l2: int
    l3: int
    l1_front: int
    l2_front: int

    @property
    def total(self) -> int:
        return self.l1 + self.l2 + self.l3


@dataclass(frozen=True)
class Units:
    """Blocks of the simulation: those of the trace, or several of these where a page is larger."""

    block_tokens: int
    trace_blocks: int  # of the trace, in one

    @staticmethod
    def of(trace: Trace, page_tokens: int) -> Units:
        count = max(1, -(-page_tokens // trace.block_tokens))
        return Units(trace.block_tokens * count, count)

    def blocks(self, tokens: int) -> int:
        """That so many tokens of a tier have room for."""
        return tokens // self.block_tokens

    def regroup(self, request: Request) -> Request:
        """In blocks of the simulation: a larger one is known by its last part."""
        count = self.trace_blocks
        if count == 1:
            return request
        return request._replace(
            chain=request.chain[count - 1 :: count], reusable=request.reusable // count
        )


@dataclass
class Outcome:
    """What the tiers did with a trace."""

    units: Units
    found: list[Found]  # by request, in the order of arrival
    traffic: Traffic

    def tokens(self) -> Found:
        """In all, in tokens."""
        size = self.units.block_tokens
        return Found(*(sum(column) * size for column in zip(*self.found, strict=True)))


def simulate_tiers(
    trace: Trace,
    setup: Setup,
    *,
    speed: float = 1.0,
    disk_writes_per_s: float = math.inf,
    report: Report = no_report,
) -> Outcome:
    """`speed`: requests arrive so many times as fast; `disk_writes_per_s`: bytes. Reports
    requests."""
    units = Units.of(trace, setup.page_tokens)
    tiers = _Tiers(trace, setup, units, disk_writes_per_s)
    found = []
    for request in trace:
        found.append(tiers.request(units.regroup(request), request.arrival_s / speed))
        if len(found) % REPORT_EVERY == 0:
            report(len(found), len(trace))
    return Outcome(units, found, tiers.traffic)


class Keys:
    """What the engine's modules know of a block: 8 bytes, well mixed."""

    def __init__(self, blocks: int) -> None:
        self.of = [((n + 1) * _MIXER % (1 << 64)).to_bytes(8, "little") for n in range(blocks)]
        self.block = {key: block for block, key in enumerate(self.of)}


class MemoryTier:
    """L1 or L2: `pages` of them, in the order of the engine's policy."""

    def __init__(
        self,
        pages: int,
        eviction: MemoryEviction,
        keys: Keys,
        on_evict: Callable[[int], None] | None = None,
    ) -> None:
        self.held: set[int] = set()
        self._pages = pages
        self._policy = make_policy(eviction, pages)
        self._keys = keys
        self._on_evict = on_evict

    def touch(self, chain: Sequence[int]) -> None:
        """Used once more."""
        held, key_of, touch = self.held, self._keys.of, self._policy.touch
        for block in reversed(chain):
            if block in held:
                touch(key_of[block])

    def reorder(self, chain: Sequence[int]) -> None:
        """Put in order, which is no other use."""
        held, key_of, reorder = self.held, self._keys.of, self._policy.reorder
        for block in reversed(chain):
            if block in held:
                reorder(key_of[block])

    def fill(self, chain: Sequence[int]) -> None:
        """Those that are missing enter, tail first."""
        if not self._pages:
            return
        held, policy = self.held, self._policy
        for block in reversed(chain):
            if block in held:
                continue
            key = self._keys.of[block]
            policy.expect(key)
            if len(held) == self._pages:
                self._evict()
            policy.insert(key)
            held.add(block)

    def _evict(self) -> None:
        [key] = self._policy.oldest(1, _is_idle)
        block = self._keys.block[key]
        if self._on_evict is not None:
            self._on_evict(block)
        self._policy.evict(key)
        self.held.remove(block)


class _Tiers:
    def __init__(self, trace: Trace, setup: Setup, units: Units, disk_writes_per_s: float) -> None:
        page_bytes = units.block_tokens * setup.token_bytes
        reused = setup if setup.prefix_reuse else setup.without_reuse()
        l2_pages = units.blocks(reused.l2.tokens)
        sizes = DiskSizes(
            units.blocks(reused.l3.tokens),
            l2_pages,
            units.block_tokens,
            page_bytes,
            disk_writes_per_s / page_bytes,
        )
        self._setup = reused
        keys = Keys(trace.unique)
        self._disk = (
            SimulatedDisk(reused.l3, sizes, _grouped_parents(trace, units), keys.of)
            if sizes.pages and l2_pages
            else None
        )
        self._l1 = MemoryTier(units.blocks(reused.l1.tokens), reused.l1.eviction, keys)
        self._l2 = MemoryTier(l2_pages, reused.l2.eviction, keys, self._leaves_l2)
        self._used_in_l2: set[int] = set()  # found since they came
        self._unwanted: set[int] = set()  # in L2, refused by the disk and not used since
        self._chain_tokens = 0
        self._block_tokens = units.block_tokens

    @property
    def traffic(self) -> Traffic:
        return self._disk.traffic if self._disk is not None else Traffic()

    def request(self, request: Request, now: float) -> Found:
        chain = request.chain
        found, from_disk = self._look_up(chain, request.reusable)
        if not request.stores:
            return found
        self._chain_tokens = len(chain) * self._block_tokens
        self._l1.touch(chain)
        self._l2.touch(chain)
        if self._disk is not None:
            self._l2.fill(chain[: found.total])
            if from_disk:
                self._l2.touch(chain)
            self._disk.begin(chain, found.total, from_disk, now)
            self._offer_again(chain[: found.total])
        self._l1.fill(chain)
        self._l2.fill(chain)
        self._l1.reorder(chain)
        self._l2.reorder(chain)
        if self._disk is not None:
            if self._setup.l3.write == "write_through":
                self._offer_new(chain[found.total :])
            self._disk.end(chain)
        return found

    def _look_up(self, chain: Sequence[int], most: int) -> tuple[Found, set[int]]:
        l1 = l2 = 0
        l1_front = l2_front = most
        from_disk: set[int] = set()
        in_l1, in_l2 = self._l1.held, self._l2.held
        on_disk: Container[int] = self._disk.held if self._disk is not None else ()
        for index, block in enumerate(chain[:most]):
            if block in in_l1:
                l1 += 1
                continue
            l1_front = min(l1_front, index)
            if block in in_l2:
                l2 += 1
                continue
            l2_front = min(l2_front, index)
            if block not in on_disk:
                break
            from_disk.add(block)
        return Found(l1, l2, len(from_disk), l1_front, l2_front), from_disk

    def _leaves_l2(self, block: int) -> None:
        was_used = block in self._used_in_l2
        self._used_in_l2.discard(block)
        if block in self._unwanted:
            self._unwanted.remove(block)
        elif self._disk is not None:
            self._disk.offer(block, was_used=was_used, chain_tokens=self._chain_tokens)

    def _offer_again(self, found: Sequence[int]) -> None:
        """What the disk did not want is offered again when it has been used."""
        self._used_in_l2.update(block for block in found if block in self._l2.held)
        again = [block for block in found if block in self._unwanted]
        self._unwanted.difference_update(again)
        if self._setup.l3.write == "write_through":
            self._offer_new(again)

    def _offer_new(self, blocks: Sequence[int]) -> None:
        assert self._disk is not None
        for block in blocks:
            was_used = block in self._used_in_l2
            if block in self._l2.held and not self._disk.offer(
                block, was_used=was_used, chain_tokens=self._chain_tokens
            ):
                self._unwanted.add(block)


def _grouped_parents(trace: Trace, units: Units) -> Sequence[int]:
    """Of each block of the simulation, the one before it."""
    parents: Sequence[int] = trace.parents
    for _ in range(units.trace_blocks - 1):
        parents = [trace.parents[parent] if parent >= 0 else -1 for parent in parents]
    return parents


def _is_idle(name: bytes) -> bool:
    return True


def chains_of(trace: Trace, units: Units) -> Iterator[Request]:
    """The requests, in blocks of the simulation."""
    return (units.regroup(request) for request in trace)
