"""What NVML says of the driver and of each GPU's health, for the GPUs that an engine sees."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvtier_ops.host.gpus import visible_handles

# <nvml.h>: they are the same in every version.
_UNCORRECTED, _SINCE_BOOT = 1, 0
_COMPUTE_PROHIBITED = 2
_SLOWDOWNS = {
    0x08: "slowed down by hardware (heat or power)",
    0x20: "slowed down by the driver for heat",
    0x40: "slowed down by hardware for heat",
    0x80: "slowed down by the power supply's brake",
}


@dataclass(frozen=True)
class GpuHealth:
    """`ills`: a few words for each thing that is wrong; `ask`: the index that nvidia-smi knows."""

    name: str
    index: int
    ills: tuple[str, ...]


@dataclass(frozen=True)
class Driver:
    """`cuda`: the newest CUDA that it serves, (12, 8); None if it does not tell."""

    version: str
    cuda: tuple[int, int] | None
    gpus: tuple[GpuHealth, ...]


def read_driver(visible: str | None = None) -> Driver | None:
    """None if NVML is not installed or finds no driver. `visible`: as for `read_gpus`."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        asked = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
        seen = visible_handles(pynvml, handles, asked)
        return Driver(
            version=_text(_ask(pynvml, "nvmlSystemGetDriverVersion")),
            cuda=_cuda(_ask(pynvml, "nvmlSystemGetCudaDriverVersion_v2")),
            gpus=tuple(_health(pynvml, handle, handles.index(handle)) for handle in seen),
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _cuda(number: Any) -> tuple[int, int] | None:
    """12080 -> (12, 8)."""
    return (number // 1000, number % 1000 // 10) if isinstance(number, int) and number else None


def _health(nvml: Any, handle: Any, index: int) -> GpuHealth:
    checks: tuple[Callable[[Any, Any], list[str]], ...] = (_memory, _rows, _clocks, _link, _mode)
    ills = [ill for check in checks for ill in check(nvml, handle)]
    return GpuHealth(_text(_ask(nvml, "nvmlDeviceGetName", handle)), index, tuple(ills))


def _memory(nvml: Any, handle: Any) -> list[str]:
    count = _ask(nvml, "nvmlDeviceGetTotalEccErrors", handle, _UNCORRECTED, _SINCE_BOOT)
    return [f"{count} memory errors that could not be corrected since the driver loaded"] * bool(
        count
    )


def _rows(nvml: Any, handle: Any) -> list[str]:
    """A100 and later remap rows, earlier ones retire pages."""
    ills = []
    remapped = _ask(nvml, "nvmlDeviceGetRemappedRows", handle)
    if isinstance(remapped, list | tuple) and len(remapped) == 4:
        _, _, pending, failed = remapped
        ills += ["damaged rows of memory wait for a reset to be remapped"] * bool(pending)
        ills += ["remapping a damaged row of memory failed"] * bool(failed)
    if _ask(nvml, "nvmlDeviceGetRetiredPagesPendingStatus", handle):
        ills.append("damaged pages of memory wait for a reset to be retired")
    return ills


def _clocks(nvml: Any, handle: Any) -> list[str]:
    reasons = _ask(nvml, "nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:
        reasons = _ask(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return [text for bit, text in _SLOWDOWNS.items() if isinstance(reasons, int) and reasons & bit]


def _link(nvml: Any, handle: Any) -> list[str]:
    """Its generation drops where it idles, its width does not."""
    now = _ask(nvml, "nvmlDeviceGetCurrPcieLinkWidth", handle)
    most = _ask(nvml, "nvmlDeviceGetMaxPcieLinkWidth", handle)
    if isinstance(now, int) and isinstance(most, int) and 0 < now < most:
        return [f"its PCIe link has {now} of {most} lanes"]
    return []


def _mode(nvml: Any, handle: Any) -> list[str]:
    prohibited = _ask(nvml, "nvmlDeviceGetComputeMode", handle) == _COMPUTE_PROHIBITED
    return ["its compute mode is `Prohibited`: nobody may use it"] * prohibited


def _ask(nvml: Any, function: str, *arguments: Any) -> Any:
    """None where this NVML, or this GPU, does not know."""
    call = getattr(nvml, function, None)
    if call is None:
        return None
    try:
        return call(*arguments)
    except nvml.NVMLError:
        return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
