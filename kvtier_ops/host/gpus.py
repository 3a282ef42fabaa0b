"""GPUs through NVML, in the order in which an engine sees them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kvtier_ops.host.sysfs import read_int
from kvtier_ops.host.types import Gpu


@contextmanager
def nvml_held() -> Iterator[None]:
    """While it lasts, whoever else opens and closes NVML does so at once: NVML counts. Without a
    persistence daemon the driver wakes every GPU at the first open, in seconds."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # there is none, or a broken one: whoever reads it says so
        yield
        return
    try:
        yield
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def read_gpus(root: Path, visible: str | None = None) -> tuple[Gpu, ...]:
    """None if NVML is not installed or finds no driver. `visible`: CUDA_VISIBLE_DEVICES, which
    also orders them; None: the environment's."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        asked = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
        return tuple(
            _gpu(root, pynvml, handle) for handle in visible_handles(pynvml, handles, asked)
        )
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def visible_handles(nvml: Any, handles: list[Any], asked: str | None) -> list[Any]:
    """CUDA's rule: indices or beginnings of UUIDs; what follows the first unknown one is not
    seen. MIG instances are not known here."""
    if asked is None:
        return handles
    found: list[Any] = []
    for item in (part.strip() for part in asked.split(",")):
        if item.isdecimal() and int(item) < len(handles):
            found.append(handles[int(item)])
            continue
        matching = [h for h in handles if item.startswith("GPU-") and _uuid(nvml, h, item)]
        if len(matching) != 1:
            break
        found.append(matching[0])
    return list(dict.fromkeys(found))


def _uuid(nvml: Any, handle: Any, start: str) -> bool:
    found = nvml.nvmlDeviceGetUUID(handle)
    text = found.decode() if isinstance(found, bytes) else str(found)
    return text.startswith(start)


def _gpu(root: Path, nvml: Any, handle: Any) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name = nvml.nvmlDeviceGetName(handle)
    return Gpu(
        name=name.decode() if isinstance(name, bytes) else str(name),
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        numa_node=_node_of(root, nvml.nvmlDeviceGetPciInfo(handle).busId),
        pcie_generation=_link(nvml, "nvmlDeviceGetMaxPcieLinkGeneration", handle),
        pcie_lanes=_link(nvml, "nvmlDeviceGetMaxPcieLinkWidth", handle),
    )


def _link(nvml: Any, function: str, handle: Any) -> int | None:
    """Of the link as it can be: an idle one is slower. None for GPUs that are not on PCIe."""
    ask = getattr(nvml, function, None)
    if ask is None:
        return None
    try:
        return int(ask(handle)) or None
    except nvml.NVMLError:
        return None


def _node_of(root: Path, bus_id: str | bytes) -> int | None:
    """The NUMA node of a PCI device; NVML writes `00000000:3B:00.0` what sysfs has as
    `0000:3b:00.0`. Without nodes the kernel says -1."""
    text = bus_id.decode() if isinstance(bus_id, bytes) else bus_id
    domain, _, rest = text.lower().partition(":")
    try:
        device = f"{int(domain, 16):04x}:{rest}"
    except ValueError:
        return None
    node = read_int(root / "sys/bus/pci/devices" / device / "numa_node")
    return node if node is not None and node >= 0 else None
