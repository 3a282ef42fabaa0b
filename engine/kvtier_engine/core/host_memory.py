"""L2's memory: opened with what the host has, checked before it is taken, watched afterwards.

What the profile asks for and the host does not have never keeps the engine from starting. Each
step down is a warning that says what to do, and a figure on /metrics: explicit huge pages, else
transparent ones, else plain pages; fewer slots; no binding to NUMA nodes; no L2 at all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from kvtier_engine.core.arena_fit import (
    BACKING,
    HUGETLB,
    RANK_BYTES,
    Demand,
    Fit,
    NoHugepages,
    check_hugepages,
    fit_hugepages,
    fit_slots,
)
from kvtier_engine.core.memory_room import memlock_room
from kvtier_engine.kv.host import HostTier
from kvtier_engine.kv.policy import make_policy
from kvtier_engine.kv.priority import ByPriority
from kvtier_engine.model.errors import ModelError
from kvtier_engine.model.gguf import model_folder
from kvtier_engine.model.weights import count_parameters
from kvtier_store import Arena, ArenaError, Backing

if TYPE_CHECKING:
    from kvtier_engine.config import EngineConfig, Hugepages

log = logging.getLogger(__name__)

_MIB = 1 << 20
_GIB = 1 << 30
_MEMFD_FLAGS: dict[Hugepages, int] = {
    "2MiB": os.MFD_HUGETLB | os.MFD_HUGE_2MB,
    "1GiB": os.MFD_HUGETLB | os.MFD_HUGE_1GB,
}


@dataclass(slots=True)
class HostMemory:
    """The arena, the descriptor through which other ranks map it, and how many of its slots the
    host's memory holds: those alone are populated, and may be used."""

    arena: Arena
    fd: int
    slots_in_use: int
    demand: Demand
    root: Path = Path("/")
    _said: str | None = None

    def why_not(self, slots: int) -> str | None:
        """Why the host has no memory for so many slots, beside what it has given; None: it has."""
        held_bytes = os.fstat(self.fd).st_blocks * 512
        if self.arena.backing in (Backing.HUGE_2M, Backing.HUGE_1G):
            # What was given back is anybody's.
            fit: Fit | None = fit_hugepages(self.demand, held_bytes, self.root)
        else:
            fit = fit_slots(self.demand, held_bytes, 0, self.root)
        if fit is None or fit.slots >= slots:
            return None
        return (
            f"{slots} slots take {_size(self.demand.bytes(slots))}, and {fit.room.source} leaves "
            f"room for {fit.slots}: free memory, or choose a smaller size"
        )

    def look(self) -> None:
        """Tells the operator once if populating has failed."""
        error = self.arena.prefault_error
        if error is not None and error != self._said:
            log.warning(
                "L2: %s (`kvtier cache resize l2`), or raise the limit of the control group: while "
                "memory is short, a slot that has none yet may take the engine down",
                error,
            )
        self._said = error

    def gauges(self) -> dict[str, float]:
        """For /metrics; documented in docs/operating.md."""
        arena = self.arena
        found = {
            f'l2_backing{{backing="{arena.backing.name.lower()}"}}': 1.0,
            "l2_target_bytes": float(arena.target_bytes),
            "l2_populating_failed": float(arena.prefault_error is not None),
        }
        if self.demand.numa_nodes:
            found["l2_numa_bound"] = float(arena.numa_error is None)
        return found


def open_arena(config: EngineConfig, namespace: bytes, root: Path = Path("/")) -> HostMemory | None:
    """Maps the launcher's memory, or memory of our own; None, logged, if neither can be had.

    The memory is populated in the background: who serves need not wait for it. `root` has the
    /proc and /sys that the checks read.
    """
    if not config.cache.l2.pages:
        return None
    for fd, hugepages in _attempts(config):
        try:
            memory = _open(config, namespace, (fd, hugepages), root)
        except (ArenaError, NoHugepages, OSError) as error:
            log.warning("L2 with %s hugepages: %s", hugepages, error)
            continue
        if memory is not None:
            _report(config, memory, hugepages, root)
            memory.arena.prefault(
                threads=config.parallel.threads_per_rank, slots=memory.slots_in_use
            )
            return memory
        break
    log.error("L2 is out of use, and L3 with it: the engine goes on with L1 alone")
    return None


def open_host(config: EngineConfig, memory: HostMemory | None) -> HostTier | None:
    """L2's bookkeeping over its memory, with what an earlier engine left in it."""
    if memory is None:
        return None
    name, slots = config.cache.l2.eviction, memory.arena.slots
    host = HostTier(memory.arena, ByPriority(lambda: make_policy(name, slots)))
    if memory.slots_in_use < slots:
        host.resize(memory.slots_in_use)
        while host.outside:  # the engine before this one had more memory
            host.shrink(slots, unsaved=True)
        memory.arena.release(memory.slots_in_use)
    if host.adopted:
        log.info("L2: %d pages of the engine before this one are kept", host.adopted)
    return host


def _attempts(config: EngineConfig) -> Iterator[tuple[int | None, Hugepages]]:
    """(the launcher's descriptor or None, pages), best first."""
    l2 = config.cache.l2
    yield l2.arena_fd, l2.hugepages
    if l2.hugepages == "1GiB":
        yield None, "2MiB"
    if l2.arena_fd is not None or l2.hugepages in HUGETLB:
        yield None, "none" if l2.hugepages == "none" else "transparent"


def _open(
    config: EngineConfig, namespace: bytes, attempt: tuple[int | None, Hugepages], root: Path
) -> HostMemory | None:
    """None, logged, if there is no room for one slot. Raises ArenaError, NoHugepages, OSError."""
    given, hugepages = attempt
    fd = given
    if fd is None:
        fd = os.memfd_create("kvtier-l2", os.MFD_CLOEXEC | _MEMFD_FLAGS.get(hugepages, 0))
    arena = None
    try:
        slots = _slots_that_fit(config, hugepages, fd, root)
        if slots:
            arena = _map(config, namespace, fd, hugepages)
    finally:
        if arena is None and given is None:
            os.close(fd)
    if arena is None:
        return None
    return HostMemory(arena, fd, slots, Demand.of(config, hugepages), root)


def _map(config: EngineConfig, namespace: bytes, fd: int, hugepages: Hugepages) -> Arena:
    ranks = config.parallel.tensor_parallel
    return Arena.open(
        fd,
        slots=config.cache.l2.pages,
        parts=ranks,
        part_bytes=config.cache.page_bytes // ranks,
        namespace=namespace,
        backing=BACKING[hugepages],
        numa_nodes=config.cache.l2.numa_nodes,
    )


def _slots_that_fit(config: EngineConfig, hugepages: Hugepages, fd: int, root: Path) -> int:
    """Says in one warning, or error, why it is less than all. Raises NoHugepages."""
    demand, status = Demand.of(config, hugepages), os.fstat(fd)
    if hugepages in HUGETLB:
        # What an engine before this one has mapped is granted to the file for good.
        if status.st_size < demand.bytes(demand.slots):
            check_hugepages(demand, root)
        return demand.slots
    held_bytes = status.st_blocks * 512
    fit = fit_slots(demand, held_bytes, _reserve_bytes(config), root)
    if fit is None:
        return demand.slots
    if fit.slots == 0:
        log.error("L2: %s", _too_little(demand, fit))
    elif fit.slots < demand.slots:
        log.warning("L2 uses %d of %d slots: %s", fit.slots, demand.slots, _too_little(demand, fit))
    return fit.slots


def _too_little(demand: Demand, fit: Fit) -> str:
    return (
        f"`tiers.l2.size` asks for {_size(demand.bytes(demand.slots))}, and {fit.room.source} "
        f"leaves {_size(fit.room.bytes)}, of which the engine needs {_size(fit.reserve_bytes)} for "
        "the rest; free memory or raise the limit, and `kvtier cache resize l2`, or make "
        "`tiers.l2.size` smaller"
    )


def _reserve_bytes(config: EngineConfig) -> int:
    """What this engine takes of the host's memory after this, as far as it is known by now."""
    reserve = RANK_BYTES * (config.parallel.tensor_parallel - 1)
    if config.device == "cpu":
        reserve += config.cache.l1.pages * config.cache.page_bytes
        with suppress(ModelError, SafetensorError, OSError):  # loading says it better
            parameters = count_parameters(model_folder(config.model.path))
            reserve += parameters * (4 if config.model.dtype == "float32" else 2)
    return reserve


def _report(config: EngineConfig, memory: HostMemory, hugepages: Hugepages, root: Path) -> None:
    arena = memory.arena
    log.info(
        "L2: %d slots, %d bytes, backing %s, %s",
        arena.slots,
        arena.mapped_bytes,
        arena.backing.name.lower(),
        "adopted" if arena.adopted else "new",
    )
    if hugepages == "transparent" and arena.backing is Backing.PLAIN:
        log.warning(
            "L2 lies in plain pages: this kernel gives shared memory no transparent huge pages, "
            "so copies and reads from disk are slower; `echo advise | sudo tee "
            "/sys/kernel/mm/transparent_hugepage/shmem_enabled`, and launch again"
        )
    if arena.numa_error is not None:
        log.warning(
            "L2: %s; its memory comes from any node, so copies may be slower: correct "
            "`tiers.l2.numa`",
            arena.numa_error,
        )
    if config.device == "cuda":
        lock, needed = memlock_room(root), arena.mapped_bytes
        if lock is not None and lock.bytes < needed:
            log.warning(
                "L2: the GPU copies fastest from page-locked memory, and %s grants %s of %s: if "
                "the driver refuses the rest, copies are slower; raise it (`LimitMEMLOCK=infinity` "
                "in a systemd unit, `--ulimit memlock=-1` in docker), or make `tiers.l2.size` "
                "smaller",
                lock.source,
                _size(lock.bytes),
                _size(needed),
            )


def _size(count: int) -> str:
    return f"{count / _GIB:.2f} GiB" if count >= _GIB else f"{count // _MIB} MiB"
