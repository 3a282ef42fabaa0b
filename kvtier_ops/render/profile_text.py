"""A profile as text that reads back as the same profile, wherever it is read.

Nothing in it depends on the reader's environment: `$` is written so that it is no variable.
"""

from __future__ import annotations

from typing import Any

from kvtier_ops.profile.schema import Profile
from kvtier_ops.render.yaml_text import as_yaml

# Names of the fields that are paths, at the end of a field or before an item's number.
PATHS = frozenset({"path", "directories", "shared_directories", "file", "request_trace"})


def profile_text(profile: Profile) -> str:
    """Secrets that the engine's environment holds are the caller's to take out before."""
    return as_yaml(_plain(profile.model_dump(mode="json"), ""))


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        kept = {key: _plain(item, key) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item, name) for item in value]
    if isinstance(value, str):
        return value.replace("$", "$$") if name in PATHS else value.replace("${", "$${")
    return value
