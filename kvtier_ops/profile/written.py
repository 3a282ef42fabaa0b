"""Single values of a profile: what they mean, what was written, and where from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvtier_ops import paths

FieldPath = tuple[str | int, ...]


class Written(str):
    """The text that a value stands for, `${NAME}` replaced.

    `source` is what was written, `folder` that from which its relative paths start, and
    `variables` are those whose values are in the text.
    """

    source: str
    folder: Path
    variables: tuple[str, ...]

    def __new__(cls, text: str, source: str, folder: Path, variables: tuple[str, ...]) -> Written:
        self = super().__new__(cls, text)
        self.source, self.folder, self.variables = source, folder, variables
        return self


def read_written(source: str, folder: Path) -> Written:
    """Raises ValueError where a variable is missing or wrongly written."""
    text, names = paths.substitute(source)
    return Written(text, source, folder, names)


def leaves(value: Any, path: FieldPath = ()) -> Iterator[tuple[FieldPath, Written]]:
    """Every single value in nested dicts and lists, and its path below `path`."""
    if isinstance(value, Written):
        yield path, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))


def at(value: Any, path: FieldPath) -> Any:
    """What stands at `path` in nested dicts and lists; None if nothing does."""
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value
