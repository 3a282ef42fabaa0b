"""Folders by the XDG base directory specification; `~` in paths; variables in text.

What `${NAME}` means has its one home here, for paths and for every other value.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

_DEFAULTS = {
    "XDG_CACHE_HOME": ".cache",
    "XDG_STATE_HOME": ".local/state",
}
VARIABLE_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_IN_BRACES = re.compile(rf"({VARIABLE_NAME})(?::-(.*))?", re.DOTALL)
_BRACED = re.compile(r"\$(\$)(?=\{)|\$\{([^}]*)(\}?)")
_BRACED_OR_BARE = re.compile(rf"\$(\$)|\$\{{([^}}]*)(\}}?)|\$({VARIABLE_NAME})")


class Substituted(NamedTuple):
    """`names`: the variables whose values are in `text`; a default is not among them."""

    text: str
    names: tuple[str, ...]


def xdg_home(name: str) -> Path:
    """$XDG_CACHE_HOME or $XDG_STATE_HOME; a relative value is ignored, as the standard says."""
    value = os.environ.get(name, "")
    if value and Path(value).is_absolute():
        return Path(value)
    return Path(os.path.expanduser("~")) / _DEFAULTS[name]


def models_home() -> Path:
    """Where pulled models are kept."""
    return xdg_home("XDG_CACHE_HOME") / "kvtier" / "models"


def substitute(text: str, *, bare: bool = False) -> Substituted:
    """`${NAME}`, `${NAME:-default}` (also where NAME is empty) and `$${` for a plain `${`.

    `bare`: `$NAME` and `$$` as well. Raises ValueError, with what to write.
    """
    names: list[str] = []

    def value_of(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        name, default = (match[4], None) if bare and match[4] else _name_and_default(match)
        value = os.environ.get(name)
        if not value and default is not None:
            return default
        if name in _DEFAULTS:
            value = str(xdg_home(name))
        elif value is None:
            raise ValueError(
                f"the environment has no `{name}`: set it, or write a default, as in "
                f"`${{{name}:-VALUE}}`"
            )
        names.append(name)
        return value

    pattern = _BRACED_OR_BARE if bare else _BRACED
    return Substituted(pattern.sub(value_of, text), tuple(names))


def _name_and_default(match: re.Match[str]) -> tuple[str, str | None]:
    if not match[3]:
        raise ValueError("`${` is never closed: write `${NAME}`, or `$${` for these two characters")
    parts = _IN_BRACES.fullmatch(match[2])
    if parts is None or "${" in (parts[2] or ""):
        raise ValueError(
            "between `${` and `}` stands the name of a variable, or a name, `:-` and a plain "
            "default; write `$${` for the two characters themselves"
        )
    return parts[1], parts[2]


def expand(text: str, base: Path) -> Path:
    """`~/x`, `$NAME/x`, `${NAME}/x`, `x` (below `base`) -> an absolute path.

    Raises ValueError for a name that the environment does not have.
    """
    if not text or "\0" in text:
        raise ValueError("a path has at least one character, none of them null")
    path = Path(os.path.expanduser(substitute(text, bare=True).text))
    if str(path).startswith("~"):
        raise ValueError(f"there is no such user (in `{text}`)")
    return Path(os.path.abspath(base / path))


def abbreviate(path: Path) -> str:
    """For reading: the home folder as `~`."""
    home = os.path.expanduser("~")
    text = str(path)
    return "~" + text[len(home) :] if home != "/" and text.startswith(home + "/") else text
