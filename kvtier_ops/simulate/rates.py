"""How fast everything is: as told, as measured, or as a device of its class would be."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kvtier_ops.errors import BadInput
from kvtier_ops.simulate.setup import ModelWork
from kvtier_ops.units import format_bytes, parse_size

RATE_EXAMPLE = "6GB/s"
_FIELDS = ("prefill_tokens_per_s", "disk_read_bytes_per_s", "disk_write_bytes_per_s",
           "l2_bytes_per_s")  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """Per second. `prefill_tokens_per_s`: at the beginning of a prompt. `sources` say, by the name
    of the field, where each comes from, for whoever has to believe it."""

    prefill_tokens_per_s: float
    disk_read_bytes_per_s: float
    disk_write_bytes_per_s: float
    l2_bytes_per_s: float
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def assumed(self) -> tuple[str, ...]:
        """Fields that nobody told or measured."""
        return tuple(name for name in _FIELDS if self.sources.get(name, "").startswith("assumed"))

    def rows(self) -> list[tuple[str, str, str]]:
        """(what, how much, where from), for a table."""
        shown = (
            ("prefill", f"{self.prefill_tokens_per_s:,.0f} tokens/s"),
            ("disk read", _shown(self.disk_read_bytes_per_s)),
            ("disk write", _shown(self.disk_write_bytes_per_s)),
            ("L2 copy", _shown(self.l2_bytes_per_s)),
        )
        return [
            (what, rate, self.sources.get(name, ""))
            for name, (what, rate) in zip(_FIELDS, shown, strict=True)
            if rate
        ]


def _shown(rate: float) -> str:
    """Empty for a disk that is not there."""
    return f"{format_bytes(int(rate))}/s" if math.isfinite(rate) else ""


@dataclass(frozen=True)
class DeviceClass:
    """What to go by where nothing was measured."""

    name: str
    flops: float  # in prefill, reached
    l2_bytes_per_s: float


DEVICES: Mapping[str, DeviceClass] = {
    "cuda": DeviceClass("one H100 over PCIe 4", 320e12, 20e9),
    "cpu": DeviceClass("two cores of a server", 80e9, 5e9),
}
_DISK = ("an NVMe drive", 3e9, 1.5e9)


@dataclass(frozen=True)
class ToldRates:
    """What an operator knows; None: nothing."""

    prefill_tokens_per_s: float | None = None
    disk_read_bytes_per_s: float | None = None
    disk_write_bytes_per_s: float | None = None
    l2_bytes_per_s: float | None = None


def make_rates(
    told: ToldRates, work: ModelWork, device: str, planned: Rates | None = None
) -> Rates | None:
    """What is told counts most, then what the plan goes by, then the class. None if the rate
    of prefill can be had from nowhere."""
    kind = DEVICES.get(device, DEVICES["cpu"])
    disk, disk_read, disk_write = _DISK
    like = f"assumed: {kind.name}"
    assumed = {
        "disk_read_bytes_per_s": (disk_read, f"assumed: {disk}"),
        "disk_write_bytes_per_s": (disk_write, f"assumed: {disk}"),
        "l2_bytes_per_s": (kind.l2_bytes_per_s, like),
    }
    if work.active_parameters:
        assumed["prefill_tokens_per_s"] = (kind.flops / (2 * work.active_parameters), like)
    values, sources = {}, {}
    for name in _FIELDS:
        value = getattr(told, name)
        if value is not None:
            values[name], sources[name] = value, "as told"
        elif planned is not None:
            values[name], sources[name] = getattr(planned, name), planned.sources.get(name, "")
        elif name in assumed:
            values[name], sources[name] = assumed[name]
        else:
            return None
    return Rates(**values, sources=sources)


def parse_rate(text: str, option: str) -> int:
    """`6GB/s` -> bytes per second. Raises BadInput."""
    match = re.fullmatch(r"\s*(.+?)\s?/\s?s\s*", text)
    hint = f"such as `{option} {RATE_EXAMPLE}`"
    if match is None:
        raise BadInput(f"write a size per second, not `{text[:40]}`", hint, place=option)
    try:
        rate = parse_size(match[1]).bytes
    except ValueError as error:
        raise BadInput(str(error), hint, place=option) from None
    if not rate:
        raise BadInput("nothing moves at no bytes per second", hint, place=option)
    return rate
