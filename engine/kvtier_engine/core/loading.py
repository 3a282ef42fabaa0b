"""Loads the model on one rank and maps its part of the arena."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvtier_engine._store import Arena
from kvtier_engine.config import EngineConfig
from kvtier_engine.model.gguf import model_folder
from kvtier_engine.model.spec import load_spec
from kvtier_engine.runner.distributed import RankGroup
from kvtier_engine.runner.runner import Runner

if TYPE_CHECKING:
    Report = Callable[[str, int, int], None]
