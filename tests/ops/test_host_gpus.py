"""GPUs: which of them the engine sees, their links, and what is known of them by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kvtier_ops.host import Gpu, probe
from kvtier_ops.host.gpus import read_gpus
from kvtier_ops.host.known_gpus import KNOWN_GPUS, known_gpu

UUIDS = ("GPU-aaaa-1", "GPU-aabb-2", "GPU-cccc-3", "GPU-dddd-4")


class NvmlError(Exception):
    pass


def failing(*arguments: object) -> None:
    raise NvmlError


def nvml(**changes: Any) -> SimpleNamespace:
    """Four GPUs, named by their index."""
    functions: dict[str, Any] = {
        "NVMLError": NvmlError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 4,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=10, free=9),
        "nvmlDeviceGetName": lambda handle: f"GPU {handle}",
        "nvmlDeviceGetUUID": lambda handle: UUIDS[handle],
        "nvmlDeviceGetPciInfo": lambda handle: SimpleNamespace(busId="00000000:3B:00.0"),
        "nvmlDeviceGetMaxPcieLinkGeneration": lambda handle: 5,
        "nvmlDeviceGetMaxPcieLinkWidth": lambda handle: 16,
    }
    return SimpleNamespace(**{**functions, **changes})


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda module: monkeypatch.setitem(sys.modules, "pynvml", module)


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, [0, 1, 2, 3]),
        ("2,0", [2, 0]),
        (" 1 , 3", [1, 3]),
        ("", []),
        ("-1", []),
        ("1,-1,2", [1]),
        ("1,9,2", [1]),
        ("x", []),
        ("GPU-cccc-3,GPU-aaaa-1", [2, 0]),
        ("GPU-c", [2]),
        ("GPU-aa", []),  # two of them begin so
        ("3,GPU-bbbb,1", [3]),
        ("MIG-GPU-aaaa-1/1/0", []),
        ("²", []),
        (",1", []),
    ],
)
def test_visible_gpus_in_the_order_of_the_variable(
    install: Callable[[Any], None],
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
    visible: str | None,
    seen: list[int],
) -> None:
    install(nvml())
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.name for gpu in read_gpus(home)] == [f"GPU {index}" for index in seen]
    assert [gpu.name for gpu in probe().gpus] == [f"GPU {index}" for index in seen]


def test_names_and_uuids_of_older_bindings_are_bytes(
    install: Callable[[Any], None], home: Path
) -> None:
    changes = {
        "nvmlDeviceGetName": lambda handle: b"Tesla T4",
        "nvmlDeviceGetUUID": lambda handle: UUIDS[handle].encode(),
    }
    install(nvml(**changes))
    assert [gpu.name for gpu in read_gpus(home, "GPU-dddd")] == ["Tesla T4"]


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetMemoryInfo"])
def test_a_driver_that_does_not_answer_is_no_gpu(
    install: Callable[[Any], None], home: Path, function: str
) -> None:
    install(nvml(**{function: failing}))
    assert read_gpus(home) == ()


def test_without_nvml_there_is_no_gpu(install: Callable[[Any], None], home: Path) -> None:
    install(None)
    assert read_gpus(home) == ()


@pytest.mark.parametrize("answer", [failing, lambda handle: 0])
def test_a_link_that_is_not_known(
    install: Callable[[Any], None], home: Path, answer: Callable[..., object]
) -> None:
    install(nvml(nvmlDeviceGetMaxPcieLinkWidth=answer))
    gpu = read_gpus(home)[0]
    assert (gpu.pcie_generation, gpu.pcie_lanes, gpu.pcie_bytes_per_s) == (5, None, None)


@pytest.mark.parametrize(
    ("generation", "lanes", "gigabytes"),
    [(1, 16, 3.4), (2, 16, 6.8), (3, 16, 13.4), (4, 16, 26.8), (4, 8, 13.4), (5, 16, 53.6)],
)
def test_what_a_link_carries(generation: int, lanes: int, gigabytes: float) -> None:
    rate = Gpu("X", 1, 1, None, generation, lanes).pcie_bytes_per_s
    assert rate is not None
    assert rate / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_later_generations_carry_more() -> None:
    rates = [Gpu("X", 1, 1, None, each, 16).pcie_bytes_per_s or 0 for each in range(1, 7)]
    assert rates == sorted(set(rates))
    assert Gpu("X", 1, 1, None, 99, 16).pcie_bytes_per_s is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "H100-80G"),
        ("NVIDIA H100 PCIe", "H100-PCIe-80G"),
        ("NVIDIA H100 NVL", "H100-94G"),
        ("NVIDIA H200", "H200-141G"),
        ("NVIDIA H200 NVL", "H200-141G"),
        ("NVIDIA H20", "H20-96G"),
        ("NVIDIA B200", "B200-180G"),
        ("NVIDIA A100-SXM4-80GB", "A100-80G"),
        ("NVIDIA A100-SXM4-40GB", "A100-40G"),
        ("NVIDIA A100-PCIE-40GB", "A100-40G"),
        ("NVIDIA A100 80GB PCIe", "A100-80G"),
        ("NVIDIA A800-SXM4-80GB", "A800-80G"),
        ("NVIDIA A40", "A40-48G"),
        ("NVIDIA A30", "A30-24G"),
        ("NVIDIA A10", "A10-24G"),
        ("NVIDIA A10G", "A10G-24G"),
        ("NVIDIA L4", "L4-24G"),
        ("NVIDIA L40", "L40-48G"),
        ("NVIDIA L40S", "L40S-48G"),
        ("Tesla T4", "T4-16G"),
        ("Tesla V100-SXM2-16GB", "V100-16G"),
        ("Tesla V100-PCIE-32GB", "V100-32G"),
        ("NVIDIA GeForce RTX 4090", "RTX4090-24G"),
        ("NVIDIA GeForce RTX 5090", "RTX5090-32G"),
        ("NVIDIA GeForce RTX 3090", "RTX3090-24G"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000Ada-48G"),
        ("NVIDIA RTX A6000", "RTXA6000-48G"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTXPRO6000-96G"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTXPRO6000-96G"),
        ("h100", "H100-80G"),
        ("H100-80GiB", "H100-80G"),
        ("rtx4090", "RTX4090-24G"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),  # another chip
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce GTX 1080", None),
        ("H100-48G", None),
        ("A1", None),
        ("100", None),
        ("", None),
        ("\0" * 1000, None),
    ],
)
def test_known_gpus_by_our_name_and_by_nvmls(name: str, expected: str | None) -> None:
    found = known_gpu(name)
    assert (found.name if found else None) == expected


def test_what_is_known_is_plausible() -> None:
    assert len({gpu.name for gpu in KNOWN_GPUS}) == len(KNOWN_GPUS)
    for gpu in KNOWN_GPUS:
        assert known_gpu(gpu.name) is gpu
        assert gpu.name.endswith(f"-{gpu.memory_gib}G")
        assert 50 <= gpu.bf16_tflops <= 3000
        assert 250 <= gpu.memory_gb_per_s <= 10_000
        assert 3 <= gpu.pcie_generation <= 6
