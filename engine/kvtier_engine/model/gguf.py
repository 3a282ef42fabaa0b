"""GGUF files: read once through transformers and kept as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path


def model_folder(path: Path) -> Path:
    """The folder that holds the model of `path`."""
    return path
