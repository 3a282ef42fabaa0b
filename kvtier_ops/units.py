"""Sizes as operators write them: `64GiB`, `1.5TB`, `25%`, `auto`.

A size is a number and a unit; GiB (2^30) and GB (10^9) differ. A fraction of a byte is
dropped: rounding is always down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

UNITS: dict[str, int] = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "PiB": 1 << 50,
}
_BINARY = ("PiB", "TiB", "GiB", "MiB", "KiB", "B")
_BYTES_MAX = 1 << 63
_NUMBER = re.compile(r"(\d{1,20}(?:\.\d{1,9})?)\s?([A-Za-z%]*)", re.ASCII)

SIZE_PATTERN = r"^\d{1,20}(\.\d{1,9})? ?([KMGTP]iB|[kMGTP]?B)$"
LIMIT_PATTERN = r"^(none|\d{1,20}(\.\d{1,9})? ?([KMGTP]iB|[kMGTP]?B))$"
AMOUNT_PATTERN = r"^(auto|\d{1,20}(\.\d{1,9})? ?([KMGTP]iB|[kMGTP]?B|%))$"


class Auto(Enum):
    """The value `auto`: kvtier chooses, and the plan says why."""

    AUTO = "auto"

    def __str__(self) -> str:
        return "auto"


AUTO = Auto.AUTO


class Respelled(ValueError):
    """A wrong value whose sentence spells it as it should be, and so tells what it is."""


@dataclass(frozen=True)
class Size:
    """A number of bytes. Prints exactly, in the largest binary unit that divides it."""

    bytes: int

    def __str__(self) -> str:
        for unit in _BINARY:
            if self.bytes and self.bytes % UNITS[unit] == 0:
                return f"{self.bytes // UNITS[unit]}{unit}"
        return f"{self.bytes}B"


@dataclass(frozen=True)
class Share:
    """A part of what the host has; 0 < percent <= 100."""

    percent: Fraction

    def of(self, total_bytes: int) -> int:
        """Bytes, rounded down."""
        return int(total_bytes * self.percent / 100)

    def __str__(self) -> str:
        return f"{float(self.percent):.9g}%"


Amount = Size | Share | Auto


def parse_size(text: str) -> Size:
    """`1.5GiB` -> Size. Raises ValueError with a sentence that says what to write."""
    number, unit = _split(text)
    if unit == "%":
        raise ValueError(
            f"write bytes, such as `64GiB`; a percentage (`{text}`) means nothing here"
        )
    return Size(_to_bytes(text, number, unit))


def parse_amount(text: str) -> Amount:
    """`auto`, `25%` or a size. Raises ValueError with a sentence that says what to write."""
    if text == AUTO.value:
        return AUTO
    number, unit = _split(text)
    if unit != "%":
        return Size(_to_bytes(text, number, unit))
    percent = Fraction(number)
    if not 0 < percent <= 100:
        raise ValueError(f"a percentage lies above 0% and up to 100%, not `{text}`")
    return Share(percent)


def format_bytes(count: int) -> str:
    """For reading, not for parsing: three significant digits and a binary unit (`1.46 GiB`)."""
    for unit in _BINARY[:-1]:
        if count >= UNITS[unit]:
            return f"{_round_down(Fraction(count, UNITS[unit]))} {unit}"
    return f"{count} B"


def format_decimal(count: float) -> str:
    """The same in powers of 1000, as disks and links are sold: `5.68 GB`, `395 TB`."""
    for unit in ("PB", "TB", "GB", "MB", "kB"):
        if count >= UNITS[unit]:
            return f"{_round_down(Fraction(count) / UNITS[unit])} {unit}"
    return f"{int(count)} B"


def _round_down(value: Fraction) -> str:
    """Three significant digits, never more than the value: a table must not promise too much."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    scaled = int(value * 10**digits)
    return f"{scaled / 10**digits:.{digits}f}"


def _split(text: str) -> tuple[str, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        shown = text if len(text) <= 40 else text[:37] + "..."
        if near := _as_meant(text):
            raise Respelled(f"write `{near}`, not `{shown}`")
        raise ValueError(f"write a number and a unit, such as `64GiB`, not `{shown}`")
    return match[1], match[2]


def _as_meant(text: str) -> str:
    """`.5GiB`, `1,5GiB`, `1_000MB` and `5.GiB` as they are written here; else empty, as for
    `1,000MB`, which may be either."""
    parts = re.fullmatch(r"\+?([\d_]*)([.,]?)([\d_]*)\s*([A-Za-z%]+)", text[:80], re.ASCII)
    if parts is None or (parts[2] == "," and len(parts[3]) == 3):
        return ""
    whole, fraction = (parts[number].replace("_", "") for number in (1, 3))
    if not whole and not fraction:
        return ""
    near = f"{whole or 0}{'.' if fraction else ''}{fraction}{parts[4]}"
    match = _NUMBER.fullmatch(near)
    return near if match and match[2] in ("%", *UNITS) and near != text else ""


def _to_bytes(text: str, number: str, unit: str) -> int:
    if unit == "":
        raise ValueError(f"the unit is missing: write `{number}GiB` or `{number}MiB`, not `{text}`")
    if unit not in UNITS:
        raise ValueError(_unknown_unit(number, unit))
    count = int(Fraction(number) * UNITS[unit])
    if count >= _BYTES_MAX:
        raise ValueError(f"`{text}` is more bytes than a computer can address")
    return count


def _unknown_unit(number: str, unit: str) -> str:
    prefix = unit[0].upper()
    if prefix in "KMGTP" and unit.lower() in (
        prefix.lower() + tail for tail in ("", "b", "i", "ib")
    ):
        decimal = "kB" if prefix == "K" else f"{prefix}B"
        return (
            f"`{unit}` is not a unit: write `{number}{prefix}iB` (powers of 1024) "
            f"or `{number}{decimal}` (powers of 1000)"
        )
    return f"`{unit}` is not a unit: write one of {', '.join(UNITS)}, such as `{number}GiB`"
