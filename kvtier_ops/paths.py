"""Folders by the XDG base directory specification, and `~` and `$NAME` in paths."""

from __future__ import annotations

import os
import re
from pathlib import Path

_DEFAULTS = {
    "XDG_CACHE_HOME": ".cache",
    "XDG_STATE_HOME": ".local/state",
}
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def xdg_home(name: str) -> Path:
    """$XDG_CACHE_HOME or $XDG_STATE_HOME; a relative value is ignored, as the standard says."""
    value = os.environ.get(name, "")
    if value and Path(value).is_absolute():
        return Path(value)
    return Path(os.path.expanduser("~")) / _DEFAULTS[name]


def models_home() -> Path:
    """Where pulled models are kept."""
    return xdg_home("XDG_CACHE_HOME") / "kvtier" / "models"


def expand(text: str, base: Path) -> Path:
    """`~/x`, `$NAME/x`, `${NAME}/x`, `x` (below `base`) -> an absolute path.

    Raises ValueError for a name that the environment does not have.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name in _DEFAULTS:
            return str(xdg_home(name))
        if name not in os.environ:
            raise ValueError(f"the environment has no `{name}` (in `{text}`)")
        return os.environ[name]

    if not text or "\0" in text:
        raise ValueError("a path has at least one character, none of them null")
    path = Path(os.path.expanduser(_VARIABLE.sub(value_of, text)))
    if str(path).startswith("~"):
        raise ValueError(f"there is no such user (in `{text}`)")
    return Path(os.path.abspath(base / path))


def abbreviate(path: Path) -> str:
    """For reading: the home folder as `~`."""
    home = os.path.expanduser("~")
    text = str(path)
    return "~" + text[len(home) :] if home != "/" and text.startswith(home + "/") else text
