"""What all tests share: the quickstart model, fetched once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def quickstart_gguf() -> Path:
    """SmolLM2-135M-Instruct's GGUF file, pulled pulled as an operator pulls it."""
    kvtier = [sys.executable, "-P", "-m", "kvtier_ops"]
    subprocess.run([*kvtier, "model", "pull", "smollm2-135m"], check=True, capture_output=True)
    path = subprocess.run(
        [*kvtier, "model", "path", "smollm2-135m"], check=True, capture_output=True, text=True
    )
    return Path(path.stdout.strip())


@pytest.fixture(scope="session")
def quickstart_model(quickstart_gguf: Path) -> Path:
    """Its Hugging Face folder: config.json, bf16 safetensors, tokenizer."""
    from kvtier_engine.model.gguf import convert

    return convert(quickstart_gguf, lambda done, total: None)
