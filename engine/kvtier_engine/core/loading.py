"""Brings one rank up: model, L1, its part of the arena."""

from __future__ import annotations

from collections.abc import Callable

from kvtier_engine.config import EngineConfig
from kvtier_engine.model.gguf import model_folder
from kvtier_engine.model.spec import read_spec
from kvtier_engine.runner.distributed import RankGroup
from kvtier_engine.runner.runner import Runner
from kvtier_store import Arena


def load_runner(
    config: EngineConfig,
    rank: int,
    arena: Arena | None,
    slots_in_use: int | None,
    progress: Callable[[int, int], None],
) -> Runner:
    """Meets the other ranks and loads this one's part of the model. Raises ModelError."""
    spec = read_spec(model_folder(config.model.path))
    group = RankGroup.join(rank, config.parallel.tensor_parallel, config.run_dir, config.device)
    runner = Runner(config, spec, group, arena, slots_in_use)
    runner.load(progress)
    return runner
