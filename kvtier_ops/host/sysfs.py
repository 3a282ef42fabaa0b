"""Small files below /proc and /sys. What cannot be read is as if it were not there."""

from __future__ import annotations

from pathlib import Path

LIST_ITEMS_MAX = 65536


def read_text(path: Path) -> str:
    """Without white space around it; empty if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except (OSError, ValueError):
        return ""


def read_int(path: Path) -> int | None:
    try:
        return int(read_text(path))
    except ValueError:
        return None


def read_list(path: Path) -> list[int]:
    """`0-3,8` -> [0, 1, 2, 3, 8], the kernel's way to write a set; [] if it is not one."""
    return parse_list(read_text(path))


def parse_list(text: str) -> list[int]:
    numbers: list[int] = []
    try:
        for part in filter(None, text.strip().split(",")):
            first, _, last = part.partition("-")
            start, end = int(first), int(last or first)
            if len(numbers) + end - start >= LIST_ITEMS_MAX:
                return []
            numbers += range(start, end + 1)
    except ValueError:
        return []
    return numbers
