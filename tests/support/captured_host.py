"""A root folder with the files of /proc and /sys that a test gives it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def captured(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
