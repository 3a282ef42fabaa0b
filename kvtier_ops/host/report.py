"""A host as a table for people, 80 columns wide but for long paths."""

from __future__ import annotations

from collections.abc import Sequence

from kvtier_ops.host.types import FileSystem, Gpu, Host, HugepagePool, NumaNode
from kvtier_ops.units import format_bytes

_CPU_RANGES_MAX = 4


def render_host(host: Host) -> str:
    """Plain text; what is not known is `-`."""
    parts = [_overview(host)]
    if host.numa_nodes:
        parts.append(_nodes(host))
    if host.gpus:
        parts.append(_gpus(host.gpus))
    if host.file_systems:
        parts.append(_file_systems(host.file_systems))
    return _printable("\n\n".join(parts))


def _overview(host: Host) -> str:
    memory = f"{format_bytes(host.memory_total_bytes)}, "
    memory += f"{format_bytes(host.memory_available_bytes)} of it available"
    rows = [("host", host.name or "-"), ("CPUs", _cpus(host)), ("memory", memory)]
    if host.cgroup_limit_bytes is not None:
        used = f"{format_bytes(host.cgroup_used_bytes)} of it used"
        rows.append(("cgroup", f"{format_bytes(host.cgroup_limit_bytes)}, {used}"))
    pools = host.hugepages.items()
    rows += [("hugepages", _pool(size, pool)) for size, pool in sorted(pools) if pool.total]
    if not host.gpus:
        rows.append(("GPUs", "none"))
    return "\n".join(f"{name:<10} {text}" for name, text in rows)


def _cpus(host: Host) -> str:
    quota = "" if host.cpu_quota is None else f", a quota of {host.cpu_quota:g}"
    return f"{host.cpus}{quota}" + (f" ({host.cpu_model})" if host.cpu_model else "")


def _pool(page_bytes: int, pool: HugepagePool) -> str:
    return f"{pool.free:,} of {pool.total:,} pages of {format_bytes(page_bytes)} are free"


def _nodes(host: Host) -> str:
    head = ("NUMA node", "memory", "free", "CPUs", "distances", "hugepages free")
    return _table([head, *(_node(node) for node in host.numa_nodes)])


def _node(node: NumaNode) -> tuple[str, ...]:
    pools = [
        f"{pool.free:,} x {format_bytes(size)}"
        for size, pool in sorted(node.hugepages.items())
        if pool.total
    ]
    return (
        str(node.id),
        format_bytes(node.total_bytes),
        format_bytes(node.free_bytes),
        _ranges(node.cpus),
        " ".join(map(str, node.distances)) or "-",
        ", ".join(pools) or "-",
    )


def _ranges(numbers: Sequence[int]) -> str:
    """`0-31,64-95`, the kernel's way to write a set."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    if len(spans) > _CPU_RANGES_MAX:
        return str(len(numbers))
    texts = [f"{first}-{last}" if last > first else str(first) for first, last in spans]
    return ",".join(texts) or "-"


def _gpus(gpus: Sequence[Gpu]) -> str:
    rows = [("GPU", "name", "memory", "free", "NUMA node", "PCIe")]
    for number, gpu in enumerate(gpus):
        link = f"{gpu.pcie_generation} x{gpu.pcie_lanes}"
        rows.append(
            (
                str(number),
                gpu.name,
                format_bytes(gpu.total_bytes),
                format_bytes(gpu.free_bytes),
                "-" if gpu.numa_node is None else str(gpu.numa_node),
                link if gpu.pcie_generation and gpu.pcie_lanes else "-",
            )
        )
    return _table(rows)


def _file_systems(systems: Sequence[FileSystem]) -> str:
    rows = [("file system", "size", "free", "kind", "lies on")]
    for system in systems:
        rows.append(
            (
                str(system.mount_point),
                format_bytes(system.total_bytes),
                format_bytes(system.free_bytes),
                system.kind or "-",
                _below(system),
            )
        )
    return _table(rows)


def _below(system: FileSystem) -> str:
    """`2 x nvme through raid0, partition`."""
    count = f"{len(system.drives)} x " if len(system.drives) > 1 else ""
    layers = [layer for layer in system.layers if layer != system.drive_kind.value]
    through = f" through {', '.join(layers)}" if layers else ""
    return f"{count}{system.drive_kind.value}{through}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Names of mounts are other people's: none of them moves the cursor."""
    return "".join(char if char == "\n" or char.isprintable() else "?" for char in text)
