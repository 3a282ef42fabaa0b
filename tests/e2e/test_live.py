"""`kvtier doctor --live` on a real engine whose L2 is too small for what is asked of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.engine_process import EngineProcess, engine_config, running_engine

PROMPTS = [list(range(1000 + 300 * n, 1300 + 300 * n)) for n in range(8)]  # four full pages each


def findings(engine: EngineProcess, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status, and what does not pass, by id."""
    command = [sys.executable, "-P", "-m", "kvtier_ops", "doctor", "--live", engine.url, "--json"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode in (0, 3, 4), done.stderr
    said = json.loads(done.stdout)
    listed = said["findings"] if isinstance(said, dict) else said
    return done.returncode, {each["id"]: each for each in listed if not each["ok"]}


def test_a_small_l2_thrashes_and_a_resized_one_is_drift(
    quickstart_model: Path, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVTIER_ADMIN_KEY", "key-of-the-admin")
    config = engine_config(
        quickstart_model,
        run_dir,
        cache__l1__pages=16,
        cache__l2__pages=12,
        scheduler__max_context_tokens=1000,
        server__admin_key={"env": "KVTIER_ADMIN_KEY"},
    )
    with running_engine(config) as engine:
        for prompt in [*PROMPTS, *PROMPTS]:
            engine.complete(prompt, 1)
        engine.wait_idle()
        status, wrong = findings(engine, "--interval", "0")
        assert status == 4
        assert "KVT-L202" in wrong, wrong
        assert "came back" in wrong["KVT-L202"]["current"]
        assert engine.metric("returned_pages_total", tier="l2") > 0
        assert engine.metric("evicted_age_seconds_total", tier="l2") > 0
        status, wrong = findings(engine, "--interval", "0.1")
        assert (status, wrong) == (0, {}), "nothing happened meanwhile"

        headers = {"Authorization": "Bearer key-of-the-admin"}
        body = {"tier": "l2", "size_bytes": 10 * config.cache.page_bytes}
        answer = engine.client.post("/admin/cache/resize", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        profile = tmp_path / "here.yaml"
        profile.write_text(
            f"version: 1\nmodel: {{path: {quickstart_model}, served_name: smollm2-135m}}\n"
            "engine: {max_running: 16}\ntiers: {l2: {size: 0GiB}}\n"
        )
        status, wrong = findings(engine, str(profile), "--interval", "0.1")
        assert status == 4
        assert {"KVT-L601", "KVT-L602"} <= set(wrong)
        assert wrong["KVT-L602"]["current"] == f"{answer.json()['pages']} pages"
