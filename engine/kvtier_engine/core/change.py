"""What a change of a tier is made of."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from kvtier_engine.core.background import Background

Values = dict[str, Any]
Value = TypeVar("Value")
# A bit of the change between every two steps: yields whether it got on; what came of it at the end.
Work = Generator[bool, None, Values]
Part = Generator[bool, None, Value]
RunInBackground = Callable[[Callable[[], Any]], Background[Any]]


class ChangeRefused(Exception):
    """Why a change cannot be made here and now: a sentence for the operator."""


def wait_for(background: Background[Value]) -> Part[Value]:
    """Ends with what comes of it."""
    while not background.is_done:
        yield False
    return background.result()


def now(tier: str, pages: int, size_bytes: int) -> Values:
    return {"tier": tier, "pages": pages, "bytes": size_bytes}
