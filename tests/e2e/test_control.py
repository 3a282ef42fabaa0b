"""Tenants, hints and an operator's commands on a real engine, and the manual's examples."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.engine_process import EngineProcess, engine_config, running_engine

ROOT = Path(__file__).resolve().parent.parent.parent
KEYS = {"SEARCH_KEY": "key-of-search", "KVTIER_ADMIN_KEY": "key-of-the-admin"}
PROMPT = list(range(1000, 1000 + 300))  # four full pages
ADMIN = {"Authorization": f"Bearer {KEYS['KVTIER_ADMIN_KEY']}"}
WHOSE = {"tenant": "search", "token_ids": PROMPT}


@pytest.fixture
def options(
    quickstart_model: Path, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    return {
        "model": quickstart_model,
        "run_dir": run_dir,
        "state_dir": str(tmp_path / "state"),
        "cache__l1__pages": 16,
        "cache__l2__pages": 32,
        "cache__l3__directories": [{"path": str(tmp_path / "l3"), "capacity_bytes": 1 << 30}],
        "cache__l3__write": "write_through",
        "scheduler__max_context_tokens": 1000,
        "server__api_keys": [{"name": "search", "secret": {"env": "SEARCH_KEY"}}],
        "server__admin_key": {"env": "KVTIER_ADMIN_KEY"},
    }


@contextmanager
def started(options: dict[str, Any]) -> Iterator[EngineProcess]:
    with running_engine(engine_config(**options)) as engine:
        engine.client.headers["Authorization"] = f"Bearer {KEYS['SEARCH_KEY']}"
        yield engine


def command(engine: EngineProcess, path: str, **body: Any) -> dict[str, Any]:
    response = engine.client.post(f"/admin/cache/{path}", json=body, headers=ADMIN)
    assert response.status_code == 200, response.text
    values: dict[str, Any] = response.json()
    return values


def places(engine: EngineProcess) -> list[int]:
    engine.wait_idle()
    tiers = command(engine, "lookup", **WHOSE)["tiers"]
    return [tiers[tier]["pages"] for tier in ("l1", "l2", "l3")]


def cached(answer: dict[str, Any]) -> int:
    tokens: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


def test_hints_and_commands_through_all_tiers(options: dict[str, Any]) -> None:
    with started(options) as engine:
        cold = engine.complete(PROMPT, 4, kv_cache={"no_store": True})
        assert places(engine) == [0, 0, 0]
        engine.complete(PROMPT, 4, kv_cache={"session": "s"})
        assert places(engine) == [4, 4, 4]
        assert command(engine, "end_session", tenant="search", session="s")["dropped_pages"] == 4
        assert places(engine) == [0, 0, 0]
        answer = engine.complete(PROMPT, 4, kv_cache={"pin": True})
        assert cached(answer) == 0
        assert answer["usage"]["kv_cache"] == {"pinned": True, "reason": None}
        assert places(engine) == [4, 4, 4]
        assert cached(engine.complete(PROMPT, 4, cache_salt="another")) == 0
    with started(options) as engine:
        assert places(engine) == [0, 0, 4]
        assert command(engine, "pin", **WHOSE)["tokens"] == 256
        assert places(engine) == [0, 4, 4]
        assert command(engine, "warm", tier="l1", **WHOSE)["tokens"] == 256
        assert places(engine) == [4, 4, 4]
        warm = engine.complete(PROMPT, 4)
        assert (cached(warm), warm["choices"]) == (256, cold["choices"])
        command(engine, "clear", tier="all", tenant="search")
        assert places(engine) == [0, 0, 0]
    with started(options) as engine:
        assert places(engine) == [0, 0, 0], "what was cleared is back after a restart"
        again = engine.complete(PROMPT, 4)
        assert (cached(again), again["choices"]) == (0, cold["choices"])
        command(engine, "clear", tier="all")
        assert places(engine) == [0, 0, 0]


def examples() -> list[str]:
    """The commands of the manual's section."""
    manual = (ROOT / "docs" / "operating.md").read_text()
    section = manual.split("## Tenants, hints and control")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = "\n".join(blocks).replace("\nkvtier", "\n\nkvtier")
    return [each.strip() for each in lines.split("\n\n") if each.strip()]


def test_the_manual_s_examples(options: dict[str, Any]) -> None:
    assert shutil.which("curl"), "the manual's examples need curl"
    assert len(examples()) >= 11
    with started(options) as engine:
        for example in examples():
            line = example.replace("http://127.0.0.1:8000", engine.url)
            if line.startswith("kvtier"):
                here = f"{sys.executable} -P -m kvtier_ops"
                line = f"{here}{line.removeprefix('kvtier')} --url {engine.url} --json"
            else:
                line = line.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
            done = subprocess.run(
                ["bash", "-c", line], capture_output=True, text=True, env=dict(os.environ)
            )
            assert done.returncode == 0, f"{example}\n{done.stdout}{done.stderr}"
            assert "error" not in json.loads(done.stdout), example
