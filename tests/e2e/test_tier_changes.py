"""Tiers of a real engine resized, detached and attached while it serves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.engine_process import (
    EngineProcess,
    arena_memory,
    engine_config,
    running_engine,
    wait_for,
)

from kvtier_engine.config import EngineConfig, ParallelConfig
from kvtier_store import DirectorySpec, Store, inspect

ADMIN = {"Authorization": "Bearer key-of-the-admin"}
PROMPTS = [list(range(start, start + 300)) for start in range(1000, 7000, 1000)]  # 4 pages each


@pytest.fixture
def config(
    quickstart_model: Path, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> EngineConfig:
    monkeypatch.setenv("KVTIER_ADMIN_KEY", "key-of-the-admin")
    return engine_config(
        quickstart_model,
        run_dir,
        cache__l1__pages=32,
        cache__l2__pages=64,
        cache__l3__directories=[{"path": str(tmp_path / "l3"), "capacity_bytes": 1 << 30}],
        cache__l3__write="write_through",
        scheduler__max_context_tokens=1000,
        server__admin_key={"env": "KVTIER_ADMIN_KEY"},
    )


def post(engine: EngineProcess, path: str, **body: Any) -> dict[str, Any]:
    response = engine.client.post(f"/admin/cache/{path}", json=body, headers=ADMIN)
    assert response.status_code == 200, response.text
    values: dict[str, Any] = response.json()
    return values


def memory_of(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


class Asker:
    """Asks all prompts; answers never change. Counts where their pages came from."""

    def __init__(self, engine: EngineProcess) -> None:
        self._engine = engine
        self._answers = self._ask()

    def again(self) -> dict[str, float]:
        before = self._hits()
        assert self._ask() == self._answers
        self._engine.wait_idle()
        return {tier: hits - before[tier] for tier, hits in self._hits().items()}

    def _ask(self) -> list[str]:
        return [self._engine.complete(p, 4)["choices"][0]["text"] for p in PROMPTS]

    def _hits(self) -> dict[str, float]:
        return {
            tier: self._engine.metric("hit_tokens_total", tier=tier) for tier in ("l1", "l2", "l3")
        }


@pytest.mark.parametrize("ranks", [1, 3])
def test_each_tier_gets_smaller_goes_and_comes_back(config: EngineConfig, ranks: int) -> None:
    parallel = ParallelConfig(tensor_parallel=ranks, threads_per_rank=2 // ranks or 1)
    config = config.model_copy(update={"parallel": parallel})
    page = config.cache.page_bytes
    with arena_memory() as arena, running_engine(config, arena) as engine:
        asker = Asker(engine)
        engine.wait_idle()
        wait_for(lambda: memory_of(arena) > 64 * page, "L2 to be populated")
        full = int(engine.metric("l2_mapped_bytes"))

        assert post(engine, "resize", tier="l1", size_bytes=16 * page)["pages"] == 16
        slots = post(engine, "resize", tier="l2", size_bytes=20 * page)["pages"]
        assert 15 < slots <= 20
        assert memory_of(arena) < 22 * page
        hits = asker.again()
        assert hits["l3"] > 0
        assert engine.metric("pages_capacity", tier="l2") == slots

        post(engine, "detach", tier="l3")
        assert engine.metric("tier_up", tier="l3") == 0
        asker.again()
        post(engine, "detach", tier="l2")
        assert memory_of(arena) < 2 * page
        assert asker.again()["l2"] == 0

        assert post(engine, "attach", tier="l2")["pages"] == slots
        assert post(engine, "resize", tier="l2", size_bytes=full)["pages"] == 64
        assert post(engine, "attach", tier="l3")["pages"] > 0
        assert post(engine, "resize", tier="l1", size_bytes=32 * page)["pages"] == 32
        assert asker.again()["l3"] > 0
        post(engine, "clear", tier="l1")
        assert asker.again()["l2"] > 0
        assert engine.metric("bookkeeping_errors_total") == 0


def test_a_detached_directory_belongs_to_nobody(config: EngineConfig, tmp_path: Path) -> None:
    with running_engine(config) as engine:
        asker = Asker(engine)
        engine.wait_idle()
        pages = engine.metric("pages_held", tier="l3")
        post(engine, "detach", tier="l3")
        store = open_store(config, tmp_path / "l3")
        assert store.stats().pages == pages
        refused = engine.client.post("/admin/cache/attach", json={"tier": "l3"}, headers=ADMIN)
        assert refused.status_code == 409
        assert "l3 is out of use until it can be attached" in refused.text
        store.close()
        post(engine, "attach", tier="l3")
        assert engine.metric("pages_held", tier="l3") == pages
        asker.again()


def test_another_size_of_l3_keeps_what_fits(config: EngineConfig) -> None:
    with running_engine(config) as engine:
        asker = Asker(engine)
        engine.wait_idle()
        held = engine.metric("pages_held", tier="l3")
        page = config.cache.page_bytes
        few = post(engine, "resize", tier="l3", size_bytes=20 * page)["pages"]
        assert 0 < few < held
        assert engine.metric("pages_held", tier="l3") <= few
        asker.again()
        assert post(engine, "resize", tier="l3", size_bytes=1 << 30)["pages"] > held
        asker.again()


def open_store(config: EngineConfig, folder: Path) -> Store:
    """As another engine of this model would."""
    return Store.open(
        [DirectorySpec(str(folder), 1 << 30)],
        page_bytes=config.cache.page_bytes,
        namespace=inspect(str(folder)).namespace,
    )
