"""How many slots of L2 the host's memory holds, worked out before any of it is taken."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvtier_engine.core.memory_room import (
    Room,
    hugepage_room,
    memory_rooms,
    node_hugepage_room,
    node_room,
)
from kvtier_store import Arena, Backing

if TYPE_CHECKING:
    from kvtier_engine.config import EngineConfig, Hugepages

_MIB = 1 << 20
_BLOCK_BYTES = 4096  # a slot's parts begin at multiples of it
_PAGE_BYTES: dict[Hugepages, int] = {"none": 4096, "2MiB": 2 * _MIB, "1GiB": 1024 * _MIB}
BACKING: dict[Hugepages, Backing] = {
    "none": Backing.PLAIN,
    "transparent": Backing.TRANSPARENT,
    "2MiB": Backing.HUGE_2M,
    "1GiB": Backing.HUGE_1G,
}
HUGETLB: tuple[Hugepages, ...] = ("2MiB", "1GiB")
RANK_BYTES = 300 * _MIB  # of a rank's process that is still to start
HEADROOM_BYTES_MIN = 128 * _MIB  # of each room; less than `kvtier plan` leaves, which is 5 %
HEADROOM_PERCENT = 2


class NoHugepages(Exception):
    """The host has too few explicit huge pages; the message says what to do."""


@dataclass(frozen=True)
class Demand:
    """What an arena takes, as csrc/store lays it out: a table, and a run for each rank."""

    table_bytes: int
    slot_bytes: int  # of one rank's part
    page_bytes: int
    slots: int
    numa_nodes: tuple[int, ...]
    ranks: int

    @staticmethod
    def of(config: EngineConfig, hugepages: Hugepages) -> Demand:
        ranks, slots = config.parallel.tensor_parallel, config.cache.l2.pages
        part_bytes = config.cache.page_bytes // ranks
        page_bytes = _PAGE_BYTES.get(hugepages, 2 * _MIB)
        slot_bytes = _round_up(part_bytes, _BLOCK_BYTES)
        whole = Arena.required_bytes(slots, ranks, part_bytes, BACKING[hugepages])
        table_bytes = whole - ranks * _round_up(slots * slot_bytes, page_bytes)
        nodes = config.cache.l2.numa_nodes
        return Demand(table_bytes, slot_bytes, page_bytes, slots, nodes, ranks)

    def slots_in(self, size_bytes: int) -> int:
        """The most slots that take no more; more than there are, if they would fit."""
        return bisect_right(range(1, self.slots + 2), size_bytes, key=self.bytes)

    def part_bytes(self, slots: int) -> int:
        return _round_up(slots * self.slot_bytes, self.page_bytes)

    def bytes(self, slots: int) -> int:
        return self.table_bytes + self.ranks * self.part_bytes(slots)


@dataclass(frozen=True)
class Fit:
    """So many slots fit; `room` has least room beside its `reserve_bytes`."""

    slots: int
    room: Room
    reserve_bytes: int


def fit_slots(demand: Demand, held_bytes: int, reserve_bytes: int, root: Path) -> Fit | None:
    """The slots that fit into every room; None if nothing limits them. `held_bytes` lie in the
    arena's file already, `reserve_bytes` the engine will take besides."""
    fits = [
        _fit(demand, room, demand.bytes, held_bytes, reserve_bytes + _headroom(room))
        for room in memory_rooms(root)
    ]
    for node, parts in Counter(demand.numa_nodes).items():
        room = node_room(root, node)
        if room is None:
            continue  # there is no such node: it cannot be bound to either
        held = held_bytes * parts // demand.ranks
        fits.append(_fit(demand, room, _on_node(demand, parts), held, _headroom(room)))
    return min(fits, key=lambda fit: fit.slots, default=None)


def _fit(demand: Demand, room: Room, needs: Callable[[int], int], held: int, reserve: int) -> Fit:
    left = room.bytes + held - reserve
    return Fit(bisect_right(range(1, demand.slots + 1), left, key=needs), room, reserve)


def check_hugepages(demand: Demand, root: Path) -> None:
    """Raises NoHugepages if the whole arena does not find its explicit huge pages: the system
    grants them all or none when the arena is mapped, but by node only when they are touched,
    and then the answer is SIGBUS."""
    rooms = [(hugepage_room(root, demand.page_bytes), demand.bytes(demand.slots))]
    for node, parts in Counter(demand.numa_nodes).items():
        room = node_hugepage_room(root, node, demand.page_bytes)
        if room is not None:
            rooms.append((room, parts * demand.part_bytes(demand.slots)))
    for room, needed in rooms:
        if room.bytes < needed:
            pages, free = -(-needed // demand.page_bytes), room.bytes // demand.page_bytes
            raise NoHugepages(
                f"{pages} huge pages of {demand.page_bytes // _MIB} MiB are needed, and "
                f"{room.source} has {free} to spare: reserve more "
                f"(nr_hugepages beside that file), or set `tiers.l2.hugepages: transparent`"
            )


def fit_hugepages(demand: Demand, held_bytes: int, root: Path) -> Fit:
    """The slots that find explicit huge pages beside those that the arena's file holds."""
    rooms = [_fit(demand, hugepage_room(root, demand.page_bytes), demand.bytes, held_bytes, 0)]
    for node, parts in Counter(demand.numa_nodes).items():
        room = node_hugepage_room(root, node, demand.page_bytes)
        if room is not None:
            held = held_bytes * parts // demand.ranks
            rooms.append(_fit(demand, room, _on_node(demand, parts), held, 0))
    return min(rooms, key=lambda fit: fit.slots)


def _on_node(demand: Demand, parts: int) -> Callable[[int], int]:
    return lambda slots: parts * demand.part_bytes(slots)


def _headroom(room: Room) -> int:
    return max(HEADROOM_BYTES_MIN, room.bytes * HEADROOM_PERCENT // 100)


def _round_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit
