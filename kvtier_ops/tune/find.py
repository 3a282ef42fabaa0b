"""The changes that a plan wants of this host; each only where it helps, and none is made here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.host import DriveKind, Host
from kvtier_ops.plan.places import HUGETLB_BYTES, node_available_bytes
from kvtier_ops.plan.types import HugepageNeed, Plan
from kvtier_ops.tune.change import Change, Kind, Setting
from kvtier_ops.tune.journal import Entry, Journal
from kvtier_ops.units import UNITS, format_bytes

_THP = "/sys/kernel/mm/transparent_hugepage"
# Below this the page tables of a small-paged arena do not matter.
THP_MATTERS_BYTES = 8 * UNITS["GiB"]
# Measured (docs/benchmarks.md): reading weights goes twice as fast as with the usual 128 KiB.
READAHEAD_KIB = 4096
READAHEAD_ENOUGH_KIB = 1024
READAHEAD_MATTERS_BYTES = UNITS["GiB"]  # of weights: less is read in a second in any case
_HUGEPAGE_NAMES = {size: name for name, size in HUGETLB_BYTES.items()}
# I/O schedulers that suit a drive, the best one first. The kernel's own defaults, and a virtual
# disk's by measurement: without one its rate is no better, and its slowest reads are twenty times
# as slow (docs/benchmarks.md).
SUITED_SCHEDULERS = {
    DriveKind.NVME: ("none",),
    DriveKind.SSD: ("mq-deadline", "none"),
    DriveKind.VIRTUAL: ("mq-deadline", "none"),
    DriveKind.HDD: ("mq-deadline", "bfq"),
}


@dataclass(frozen=True)
class _Kernel:
    """Settings as they are, or as they were before kvtier changed them for somebody else: who
    wants the same thing holds on to it. One that somebody else has set since is what it is."""

    root: Path
    held: Mapping[Setting, Entry]

    def read(self, setting: Setting) -> str | None:
        """None where the kernel does not have it."""
        try:
            now = setting.read(self.root)
        except (OSError, ValueError):
            return None
        entry = self.held.get(setting)
        return entry.old if entry is not None and now in (entry.new, entry.got) else now


def find_changes(plan: Plan, journal: Journal, root: Path = Path("/")) -> tuple[Change, ...]:
    """Needed ones first. What the kernel does not have is left out."""
    held = [entry for entry in journal.entries if entry.setting.kind is not Kind.COUNT]
    kernel = _Kernel(root, {entry.setting: entry for entry in held})
    found = [*_hugepages(plan, journal, kernel), *_transparent(plan, kernel)]
    found += [*_schedulers(plan, kernel), *_readahead(plan, kernel)]
    return tuple(dict.fromkeys(found))


def _hugepages(plan: Plan, journal: Journal, kernel: _Kernel) -> Iterator[Change]:
    for need in plan.hugepages:
        if need.is_forbidden:
            continue  # reserving more would not help this process
        where = f" on node {need.node}" if need.node is not None else ""
        size = _HUGEPAGE_NAMES[need.page_bytes]
        pools = (_pool(node, need) for node in _nodes(plan.host, need) or [None])
        free = max(0, need.free - sum(_promised(each, journal, kernel) for each in pools))
        why = (
            f"L2 of {format_bytes(plan.l2.bytes)} takes {need.pages:,} hugepages of {size}{where}, "
            f"{free:,} are free"
        )
        for node, pages in _spread(plan.host, need, max(0, need.pages - free)):
            setting = _pool(node, need)
            old = kernel.read(setting)
            if old is not None and pages:
                new = str(int(old) + pages)
                yield Change(setting, old, new, why, "KVT-P011", is_needed=True)


def _pool(node: int | None, need: HugepageNeed) -> Setting:
    base = "/sys/kernel/mm" if node is None else f"/sys/devices/system/node/node{node}"
    name = f"hugepages-{need.page_bytes // 1024}kB"
    return Setting(f"{base}/hugepages/{name}/nr_hugepages", Kind.COUNT)


def _nodes(host: Host, need: HugepageNeed) -> list[int | None]:
    """Whose pages are counted as free for it."""
    if need.node is not None:
        return [need.node]
    return [node.id for node in host.numa_nodes if not need.among or node.id in need.among]


def _promised(pool: Setting, journal: Journal, kernel: _Kernel) -> int:
    """Pages of it that are free only because the engine of another launcher has not come to use
    those that were added for it."""
    others = [
        each
        for each in journal.entries
        if each.setting == pool and each.owner.is_alive and each.owner.pid != os.getpid()
    ]
    added = sum(int(each.got or each.new) - int(each.old) for each in others)
    try:
        free = int(pool.below(kernel.root).with_name("free_hugepages").read_text())
        return free - max(0, min(free, int(pool.read(kernel.root)) - added))
    except (OSError, ValueError):
        return 0


def _spread(host: Host, need: HugepageNeed, missing: int) -> list[tuple[int | None, int]]:
    """(node, pages to add): always by node, since the kernel takes pages away by node as well.
    Pages that may lie anywhere are shared out as the nodes have room."""
    nodes = [node for node in host.numa_nodes if not need.among or node.id in need.among]
    if need.node is not None or not nodes:
        return [(need.node, missing)]
    rooms = [max(0, node_available_bytes(host, node)) // need.page_bytes for node in nodes]
    total = sum(rooms) or 1
    shares = [missing * room // total for room in rooms]
    largest = max(range(len(nodes)), key=rooms.__getitem__)
    shares[largest] += missing - sum(shares)
    return [(node.id, share) for node, share in zip(nodes, shares, strict=True)]


def _transparent(plan: Plan, kernel: _Kernel) -> Iterator[Change]:
    """`deny` is an order; `never` is what distributions ship."""
    l2, l1 = plan.l2, plan.l1
    if plan.profile.tiers.l2.hugepages == "transparent" and l2.bytes >= THP_MATTERS_BYTES:
        why = f"L2 of {format_bytes(l2.bytes)} asks for transparent hugepages, shared memory"
        yield from _replace(Setting(f"{_THP}/shmem_enabled", Kind.CHOICE), "advise", why, kernel)
    if plan.device == "cpu" and l1.bytes >= THP_MATTERS_BYTES:
        why = f"L1 of {format_bytes(l1.bytes)} and the weights ask for transparent hugepages"
        yield from _replace(Setting(f"{_THP}/enabled", Kind.CHOICE), "madvise", why, kernel)


def _replace(setting: Setting, new: str, why: str, kernel: _Kernel) -> Iterator[Change]:
    old = kernel.read(setting)
    if old == "never":
        yield Change(setting, old, new, why, "KVT-D203")


def _schedulers(plan: Plan, kernel: _Kernel) -> Iterator[Change]:
    """Of drives behind L3 whose scheduler suits them not at all."""
    for disk in plan.disks:
        for drive in disk.on.drives:
            setting = Setting(f"/sys/block/{drive.name}/queue/scheduler", Kind.CHOICE)
            old, suited = kernel.read(setting), SUITED_SCHEDULERS.get(drive.kind, ())
            if old is None or old in suited:
                continue
            wanted = next((each for each in suited if each in _words(setting, kernel.root)), None)
            if wanted is not None:
                why = f"L3 in {disk.path}: `{old}` holds pages back that {drive.kind} would take"
                if drive.kind is DriveKind.HDD:
                    why = f"L3 in {disk.path}: {drive.name} turns, and near reads go together"
                yield Change(setting, old, wanted, why, "KVT-D311")


def _words(setting: Setting, root: Path) -> list[str]:
    return setting.below(root).read_text().replace("[", "").replace("]", "").split()


def _readahead(plan: Plan, kernel: _Kernel) -> Iterator[Change]:
    """Of the file system that the weights lie on: they are read in one go, through the page
    cache. Pages of L3 go past it."""
    setting = readahead_of(plan.model.path, kernel.root)
    if setting is None or plan.model.weight_bytes < READAHEAD_MATTERS_BYTES:
        return
    old = kernel.read(setting)
    if old is not None and int(old) < READAHEAD_ENOUGH_KIB:
        why = f"weights of {format_bytes(plan.model.weight_bytes)} are read from there at a start"
        yield Change(setting, old, str(READAHEAD_KIB), why, "KVT-D406")


def readahead_of(model: Path, root: Path) -> Setting | None:
    """Of the disk, or of the array, that the file system lies on; None if it has none."""
    try:
        device = os.stat(model).st_dev
    except OSError:
        return None
    name = f"{os.major(device)}:{os.minor(device)}"
    folder = (root / "sys/dev/block" / name).resolve()
    for each in (folder, folder.parent):  # a partition's queue is the disk's
        if (each / "queue/read_ahead_kb").exists():
            return Setting(f"/sys/block/{each.name}/queue/read_ahead_kb", Kind.NUMBER)
    setting = Setting(f"/sys/class/bdi/{name}/read_ahead_kb", Kind.NUMBER)
    return setting if setting.below(root).exists() else None
