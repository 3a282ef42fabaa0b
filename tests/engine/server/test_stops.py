"""Stop strings: found wherever the text is cut into pieces, and nothing else is lost."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from kvtier_engine.server.text.stops import StopStrings

LETTERS = st.text("ab", max_size=30)
STOPS = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)
CUTS = st.lists(st.integers(0, 30), max_size=12)


def expected(text: str, stops: list[str], include: bool) -> tuple[str, str | None]:
    """The simple way: for every end in turn, is there a stop string before it?"""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            stop = max(found, key=len)
            return text[: end if include else end - len(stop)], stop
    return text, None


def run(text: str, stops: list[str], cuts: list[int], include: bool) -> tuple[str, str | None]:
    matcher = StopStrings(stops, include=include)
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    shown = ""
    for start, end in pairwise(edges):
        shown += matcher.push(text[start:end])
        if matcher.matched is not None:
            return shown, matcher.matched
    return shown + matcher.flush(), None


@given(LETTERS, STOPS, CUTS, st.booleans())
@example("abcd", ["abcd", "bc"], [], False)
@example("aab", ["ab"], [1, 2], False)
def test_pieces_do_not_matter(text, stops, cuts, include) -> None:
    assert run(text, stops, cuts, include) == expected(text, stops, include)


@given(LETTERS, STOPS, CUTS)
def test_only_what_may_begin_a_stop_string_waits(text, stops, cuts) -> None:
    matcher = StopStrings(stops)
    seen = shown = ""
    for piece in (text[start : start + 3] for start in range(0, len(text), 3)):
        seen += piece
        shown += matcher.push(piece)
        if matcher.matched is not None:
            return
        waiting = seen[len(shown) :]
        assert seen.startswith(shown)
        assert waiting == "" or any(stop.startswith(waiting) for stop in stops)


def test_text_passes_untouched_without_stop_strings() -> None:
    matcher = StopStrings([])
    assert (matcher.push("anything"), matcher.flush()) == ("anything", "")
