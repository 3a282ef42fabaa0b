"""Stop strings in a text that arrives in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Lets text through up to the first stop string.

    The stop string that ends first wins, and of those that end together the longest: so
    the outcome does not depend on how the text was cut into pieces. Text that may be the
    beginning of a stop string is held back until it is clear that it is not.
    """

    def __init__(self, strings: Sequence[str], *, include: bool = False) -> None:
        """`include`: the stop string itself is part of the text."""
        self._strings = tuple(dict.fromkeys(strings))
        self._include = include
        self._held = ""
        self.matched: str | None = None

    def push(self, piece: str) -> str:
        """The text that is safe to show now. Nothing may be pushed after a match."""
        assert self.matched is None, "text after a stop string"
        if not self._strings or not piece:
            return piece
        text = self._held + piece
        match = self._first(text)
        if match is not None:
            end, self.matched = match
            self._held = ""
            return text[: end if self._include else end - len(self.matched)]
        keep = max(_overlap(text, stop) for stop in self._strings)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, when the text ends without a stop string."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> tuple[int, str] | None:
        """End and value of the match that ends first; the longest of these."""
        ends = ((text.find(stop), stop) for stop in self._strings)
        found = [(start + len(stop), -len(stop), stop) for start, stop in ends if start >= 0]
        if not found:
            return None
        end, _, stop = min(found)
        return end, stop


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that `text` ends with."""
    longest = min(len(stop) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
