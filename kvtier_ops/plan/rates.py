"""How fast this host computes, copies and reads: measured if a run has left figures, else by
what kind of thing it is, and labelled so."""

from __future__ import annotations

from collections.abc import Mapping

from kvtier_ops.host import DriveKind, FileSystem, Gpu
from kvtier_ops.model.facts import ModelFacts
from kvtier_ops.plan.cpus import plan_threads, usable_cpus
from kvtier_ops.plan.measured import (
    Measured,
    MeasuredDisk,
    MeasuredMemory,
    MeasuredRate,
    memory_key,
)
from kvtier_ops.plan.places import HUGETLB_BYTES
from kvtier_ops.plan.question import Question
from kvtier_ops.plan.types import DiskPlan, Figure, Rates, Source

# Floating-point operations per second and CPU core that prefill reaches (ours: 64 to 118 GFLOP/s
# on two AVX-512 cores without bf16 instructions, see docs/benchmarks.md).
CPU_CORE_FLOPS = 64e9
# Of a GPU's dense bf16 peak: half as much where tokens go to different experts.
GPU_EFFICIENCY = 0.33
GPU_EFFICIENCY_EXPERTS = 0.17
UNKNOWN_GPU_FLOPS = 100e12
UNKNOWN_PCIE_BYTES_PER_S = 12e9  # a link of 16 lanes, generation 3
CPU_COPY_BYTES_PER_S = 7.8e9  # one core's memcpy, as measured on the development machine
# First touch of fresh memory by one thread, and by all: measured on two virtual cores (1.0 to 1.8
# and 6 to 8.8 GB/s a thread; 0.35 where the host had to find memory for the guest first).
TOUCH_BYTES_PER_S = 1.5e9
TOUCH_HUGEPAGE_BYTES_PER_S = 6e9
TOUCH_BYTES_PER_S_MAX = 60e9

# Sustained, of one drive: (read, write) in bytes per second.
DISK_CLASSES: Mapping[DriveKind, tuple[float, float]] = {
    DriveKind.NVME: (5e9, 2e9),
    DriveKind.SSD: (0.5e9, 0.4e9),
    DriveKind.HDD: (0.15e9, 0.15e9),
    DriveKind.VIRTUAL: (1e9, 1e9),
    DriveKind.NETWORK: (1e9, 1e9),
    DriveKind.MEMORY: (8e9, 4e9),
    DriveKind.OVERLAY: (0.5e9, 0.4e9),
    DriveKind.UNKNOWN: (0.5e9, 0.4e9),
}


def plan_rates(question: Question, disks: tuple[DiskPlan, ...], measured: Measured) -> Rates:
    """Every rate that the plan's answers go by."""
    model = question.model
    flops_per_token = 2 * model.active_parameters
    attention_flops = 4 * model.query_heads * model.head_dim * model.layers
    read, write = _disk(disks, measured)
    prefill = _prefill(question, measured)
    memory = measured.memories.get(memory_key(question.host))
    slowdown = attention_flops / flops_per_token if flops_per_token else 0.0
    return Rates(
        prefill_tokens_per_s=prefill,
        # What was measured has the contexts in it that it was measured at.
        context_slowdown=0.0 if prefill.source is Source.MEASURED else slowdown,
        l2_bytes_per_s=_copies(question, memory),
        disk_read_bytes_per_s=read,
        disk_write_bytes_per_s=write,
        arena_bytes_per_s=_touch(question, memory),
    )


def _prefill(question: Question, measured: Measured) -> Figure:
    found = measured.prefill
    if found is not None and _is_of(found, question):
        return Figure(found.per_s, Source.MEASURED, _earlier(found))
    per_token = 2 * question.model.active_parameters or 1
    if question.on_cpu:
        threads, _ = plan_threads(question)
        cores = min(threads * question.ranks.here, usable_cpus(question.profile, question.host))
        rate = cores * CPU_CORE_FLOPS / per_token
        reason = f"{cores} CPUs of {CPU_CORE_FLOPS / 1e9:.0f} GFLOP/s"
        return Figure(rate, Source.ASSUMED, reason)
    peak, source, name = gpu_flops(question.host.gpus)
    efficiency = efficiency_of(question.model)
    rate = question.ranks.total * peak * efficiency / per_token
    reason = (
        f"{question.ranks.total} x {name} of {peak / 1e12:.0f} TFLOP/s, "
        f"of which {efficiency:.0%} is reached"
    )
    return Figure(rate, source, reason)


def efficiency_of(model: ModelFacts) -> float:
    is_sparse = model.active_parameters < model.parameters
    return GPU_EFFICIENCY_EXPERTS if is_sparse else GPU_EFFICIENCY


def gpu_flops(gpus: tuple[Gpu, ...]) -> tuple[float, Source, str]:
    """Dense bf16 operations per second of the first GPU, where they are from, and its name."""
    from kvtier_ops.host.known_gpus import known_gpu

    name = gpus[0].name if gpus else "GPU"
    known = known_gpu(name)
    if known is None:
        return UNKNOWN_GPU_FLOPS, Source.ASSUMED, f"{name} (not known: taken for 100 TFLOP/s)"
    return known.bf16_tflops * 1e12, Source.DATASHEET, known.name


def _copies(question: Question, measured: MeasuredMemory | None) -> Figure:
    """Between L1 and L2, all ranks together."""
    if question.on_cpu:
        threads = min(question.ranks.here, question.host.usable_cpus)
        reason = f"memcpy of {threads} thread{'s' * (threads > 1)}"
        if measured is not None:
            return Figure(measured.copy.of(threads), Source.MEASURED, _bench(measured, reason))
        return Figure(threads * CPU_COPY_BYTES_PER_S, Source.ASSUMED, reason)
    gpus = question.host.gpus[: question.ranks.here]
    rates = [gpu.pcie_bytes_per_s for gpu in gpus]
    known = [rate for rate in rates if rate is not None]
    if len(known) == len(rates) and rates:
        link = f"PCIe {gpus[0].pcie_generation} x{gpus[0].pcie_lanes}"
        return Figure(sum(known), Source.DATASHEET, f"{len(gpus)} x {link}")
    rate = len(gpus) * UNKNOWN_PCIE_BYTES_PER_S
    return Figure(rate, Source.ASSUMED, f"{len(gpus)} x PCIe 3 x16: the links are not known")


def _touch(question: Question, measured: MeasuredMemory | None) -> Figure:
    hugepages = question.profile.tiers.l2.hugepages
    is_large = hugepages in HUGETLB_BYTES
    each = TOUCH_HUGEPAGE_BYTES_PER_S if is_large else TOUCH_BYTES_PER_S
    threads, _ = plan_threads(question)
    found = measured.first_touch.get(hugepages) if measured is not None else None
    if measured is not None and found is not None:
        return Figure(found.of(threads), Source.MEASURED, _bench(measured, f"{threads} threads"))
    kind = f"hugepages of {hugepages}" if is_large else "pages of 4 KiB, or transparent ones"
    rate = min(threads * each, TOUCH_BYTES_PER_S_MAX)
    return Figure(rate, Source.ASSUMED, f"{kind}, by {threads} threads")


def _bench(measured: MeasuredMemory, what: str) -> str:
    return f"{what}, `kvtier bench memory`{f', {measured.when}' if measured.when else ''}"


def _disk(disks: tuple[DiskPlan, ...], measured: Measured) -> tuple[Figure | None, Figure | None]:
    """Reads and writes of all directories together; None without any."""
    if not disks:
        return None, None
    systems = separate(tuple(disk.on for disk in disks))
    by_bench = [measured.disks.get(system.key) for system in systems]
    classes = [
        (found.read_bytes_per_s, found.write_bytes_per_s) if found else _class_of(system)
        for found, system in zip(by_bench, systems, strict=True)
    ]
    source, reason = _source(by_bench, systems)
    read = Figure(sum(each[0] for each in classes), source, reason)
    write = Figure(sum(each[1] for each in classes), source, reason)
    if source is Source.MEASURED:
        return read, write
    found = measured.l3_read
    if found is not None and found.is_of(directories=sorted(str(disk.path) for disk in disks)):
        read = Figure(found.per_s, Source.MEASURED, _earlier(found))
    return read, write


def _source(
    by_bench: list[MeasuredDisk | None], systems: tuple[FileSystem, ...]
) -> tuple[Source, str]:
    """Measured, if all of them were."""
    days = [found.when for found in by_bench if found]
    if len(days) == len(systems):
        return Source.MEASURED, f"`kvtier bench disk`, {min(days)}"
    reason = f"by its kind, {' + '.join(map(_described, systems))}"
    return Source.ASSUMED, reason + ("; measured in part" if days else "")


def separate(systems: tuple[FileSystem, ...]) -> tuple[FileSystem, ...]:
    """File systems that share no drive: of several on the same drives, the first."""
    found: list[FileSystem] = []
    seen: set[str] = set()
    for system in systems:
        names = {drive.name for drive in system.drives} or {f"device {system.device_id}"}
        if not names & seen:
            found.append(system)
        seen |= names
    return tuple(found)


def _level(system: FileSystem) -> str:
    """`raid0`, `raid1`, `raid5`, ...: empty without one."""
    return next((layer for layer in system.layers if layer.startswith("raid")), "")


def _stripes(system: FileSystem) -> int:
    """Drives that a file lies across, which work at the same time."""
    return max(1, len(system.drives)) if _level(system) in ("raid0", "raid10") else 1


def kept_once(system: FileSystem) -> float:
    """The part of its drives' bytes that is not there for the case that one fails."""
    count = max(1, len(system.drives))
    spare = {"raid1": count - 1, "raid10": count / 2, "raid4": 1, "raid5": 1, "raid6": 2}
    return max(1.0, count - spare.get(_level(system), 0)) / count


def _class_of(system: FileSystem) -> tuple[float, float]:
    """A striped file has all of its drives at work, for reads; writes go to the copies as well."""
    read, write = DISK_CLASSES[system.drive_kind]
    count = _stripes(system)
    return read * count, write * count * (kept_once(system) if count > 1 else 1)


def _described(system: FileSystem) -> str:
    count = _stripes(system)
    return f"{f'{count} x ' if count > 1 else ''}{system.drive_kind.value}"


def _is_of(rate: MeasuredRate, question: Question) -> bool:
    """Measured with this model, on such a device."""
    threads, _ = plan_threads(question)
    return rate.is_of(
        model=str(question.model.path),
        dtype=question.profile.model.dtype,
        device=question.device,
        tensor_parallel=question.ranks.total,
        threads=threads,
    )


def _earlier(rate: MeasuredRate) -> str:
    return f"an earlier run of this profile{f', {rate.when}' if rate.when else ''}"
