"""GPUs that are known by name: memory, and what their datasheets say."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvtier_ops.units import UNITS

_GIB = UNITS["GiB"]


@dataclass(frozen=True)
class KnownGpu:
    """`memory_gib`: as it is sold. Rates are the datasheet's: dense bf16, and memory bandwidth."""

    name: str  # as `--what-if gpu=8xNAME` takes it
    memory_gib: int
    bf16_tflops: float
    memory_gb_per_s: float
    pcie_generation: int
    pcie_lanes: int = 16
    has_inline_ecc: bool = False  # GDDR of data-centre cards: a sixteenth keeps check bits

    @property
    def memory_bytes(self) -> int:
        """As NVML reports it, to a few hundred MiB."""
        sold = self.memory_gib * _GIB
        return sold * 15 // 16 if self.has_inline_ecc else sold


KNOWN_GPUS = (
    KnownGpu("B300-288G", 288, 2250, 8000, 6),
    KnownGpu("B200-180G", 180, 2250, 7700, 5),
    KnownGpu("H200-141G", 141, 989, 4800, 5),
    KnownGpu("H100-80G", 80, 989, 3350, 5),
    KnownGpu("H100-94G", 94, 835, 3900, 5),
    KnownGpu("H100-PCIe-80G", 80, 756, 2000, 5),
    KnownGpu("H20-96G", 96, 148, 4000, 5),
    KnownGpu("A100-80G", 80, 312, 2039, 4),
    KnownGpu("A100-40G", 40, 312, 1555, 4),
    KnownGpu("A800-80G", 80, 312, 2039, 4),
    KnownGpu("A40-48G", 48, 150, 696, 4, has_inline_ecc=True),
    KnownGpu("A30-24G", 24, 165, 933, 4),
    KnownGpu("A10-24G", 24, 125, 600, 4, has_inline_ecc=True),
    KnownGpu("A10G-24G", 24, 70, 600, 4, has_inline_ecc=True),
    KnownGpu("L40S-48G", 48, 362, 864, 4, has_inline_ecc=True),
    KnownGpu("L40-48G", 48, 181, 864, 4, has_inline_ecc=True),
    KnownGpu("L20-48G", 48, 119, 864, 4, has_inline_ecc=True),
    KnownGpu("L4-24G", 24, 121, 300, 4, has_inline_ecc=True),
    KnownGpu("RTXPRO6000-96G", 96, 503, 1792, 5),
    KnownGpu("RTX6000Ada-48G", 48, 364, 960, 4),
    KnownGpu("RTXA6000-48G", 48, 155, 768, 4),
    KnownGpu("RTX5090-32G", 32, 210, 1792, 5),
    KnownGpu("RTX4090-24G", 24, 165, 1008, 4),
    KnownGpu("RTX3090-24G", 24, 71, 936, 4),
    KnownGpu("V100-32G", 32, 125, 900, 3),
    KnownGpu("V100-16G", 16, 125, 900, 3),
    KnownGpu("T4-16G", 16, 65, 300, 3, has_inline_ecc=True),
    KnownGpu("MI300X-192G", 192, 1307, 5300, 5),
)
_BY_KEY = {re.sub(r"[^a-z0-9]", "", gpu.name.lower()): gpu for gpu in KNOWN_GPUS}
_OTHER_NAMES = {"h200nvl": "h200141g", "h100nvl": "h10094g", "h10080gpcie": "h100pcie80g"}
_NVML_NOISE = (
    *("nvidia", "geforce", "quadro", "tesla", "graphics", "generation", "blackwell"),
    *("hbm2", "hbm2e", "hbm3", "hbm3e", "sxm", "sxm2", "sxm4", "sxm5"),
    *("workstation", "edition", "server"),
)


def known_gpu(name: str) -> KnownGpu | None:
    """By our name for it (`H100-80G`, also without the size), or by NVML's (`NVIDIA H100 80GB
    HBM3`, `NVIDIA GeForce RTX 4090`). Without a size, the first of that name in the list."""
    return _find(name.lower()) or _find(re.sub(r"\bpcie\b", " ", name.lower()))


def _find(key: str) -> KnownGpu | None:
    for noise in _NVML_NOISE:
        key = re.sub(rf"\b{noise}\b", " ", key)
    key = re.sub(r"(\d+)\s*gi?b\b", r"\1g", key)
    key = re.sub(r"[^a-z0-9]", "", key)
    key = _OTHER_NAMES.get(key, key)
    if key in _BY_KEY:
        return _BY_KEY[key]
    chip, size = _split(key)
    for known, gpu in _BY_KEY.items():
        known_chip, _ = _split(known)
        if chip and chip == known_chip and (size is None or size == gpu.memory_gib):
            return gpu
    return None


def _split(key: str) -> tuple[str, int | None]:
    """`h10080g` cannot be split without knowing the chip: sizes are of two or three digits."""
    for gpu in KNOWN_GPUS:
        chip = re.sub(r"[^a-z0-9]", "", gpu.name.rpartition("-")[0].lower())
        rest = key.removeprefix(chip)
        if key == chip:
            return chip, None
        if key.startswith(chip) and re.fullmatch(r"\d{2,3}g", rest):
            return chip, int(rest[:-1])
    return "", None
