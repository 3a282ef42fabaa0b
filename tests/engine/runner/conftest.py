"""Models that the runner's tests share; written once, never changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.models import small_llama


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama."""
    return small_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Where the runner computes; CUDA's share runs through scripts/gpu_check.sh."""
    name = str(request.param)
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return name
