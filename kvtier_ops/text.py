"""Lines for a terminal, and what others have written made safe to show there."""

from __future__ import annotations

import textwrap

_WIDTH_MIN, _WIDTH_MAX = 60, 120


def report_width(width: int) -> int:
    """Of a report, in columns: the terminal's, within what a table can do with."""
    return max(_WIDTH_MIN, min(width, _WIDTH_MAX))


def wrapped(prefix: str, text: str, width: int, hang: int | None = None) -> list[str]:
    """`prefix` and then `text`, wrapped below its own beginning or below column `hang`."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=prefix,
        subsequent_indent=" " * (len(prefix) if hang is None else hang),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [prefix.rstrip()]


def printable(text: str) -> str:
    """Without what could move the cursor, or cannot be seen."""
    return "".join(character if character.isprintable() else "?" for character in text)


def shortened(text: str, most: int) -> str:
    """Printable, and of at most so many characters."""
    shown = printable(text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 3] + "..."
