"""`kvtier profile diff`: what differs, where it was written, and what exit code says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvtier_ops import cli
from kvtier_ops.profile.diff import differences, render
from kvtier_ops.profile.load import load_profile
from kvtier_ops.profile.secrets import MASK


@pytest.fixture
def pair(home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.chdir(home)
    (home / "a.yaml").write_text(
        "version: 1\ntiers:\n  l2: {size: 4096MiB}\n  l3: {directories: [/a, /b]}\n"
    )
    (home / "b.yaml").write_text(
        "version: 1\nextends: base.yaml\nserver: {port: 9}\n"
        "engine: {environment: {A_KEY: x, B: y}}\n"
    )
    (home / "base.yaml").write_text("tiers: {l2: {size: 4GiB}, l1: {size: 1GiB}}\n")
    return "a.yaml", "b.yaml"


def test_differences_have_values_and_places(
    pair: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["profile", "diff", *pair]) == 0
    assert capfd.readouterr().out == (
        "engine.environment.A_KEY\n"
        "  - not set\n"
        f"  + {MASK}  (b.yaml:4:31)\n"
        "engine.environment.B\n"
        "  - not set\n"
        "  + y  (b.yaml:4:37)\n"
        "tiers.l1.size\n"
        "  - auto  (default)\n"
        "  + 1GiB  (base.yaml:1:38)\n"
        "tiers.l3.directories\n"
        "  - [/a, /b]  (a.yaml:4:21)\n"
        "  + []  (default)\n"
        "server.port\n"
        "  - 8000  (default)\n"
        "  + 9  (b.yaml:3:16)\n"
    )


def test_as_json(pair: tuple[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["profile", "diff", *pair, "--json"]) == 0
    found = {each["field"]: each for each in json.loads(capfd.readouterr().out)}
    assert found["server.port"] == {
        "field": "server.port",
        "a": {"value": 8000, "place": "", "is_default": True},
        "b": {"value": 9, "place": "b.yaml:3:16", "is_default": False},
    }
    assert found["engine.environment.A_KEY"]["b"]["value"] == MASK


def test_exit_codes(pair: tuple[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["profile", "diff", *pair, "--exit-code"]) == 3
    capfd.readouterr()
    assert cli.run(["profile", "diff", pair[0], pair[0], "--exit-code"]) == 0
    assert capfd.readouterr().out == "no difference\n"
    assert cli.run(["profile", "diff", pair[0], pair[0], "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == []
    assert cli.run(["profile", "diff", pair[0], "none.yaml"]) == 2


def test_secrets_that_differ_are_seen_to_but_not_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        monkeypatch.setenv(f"{name.upper()}_TOKEN", f"s3cret-{name}")
        (home / f"{name}.yaml").write_text(
            f"version: 1\nengine:\n  environment: {{T_KEY: {name}}}\n"
            f"model:\n  served_name: ${{{name.upper()}_TOKEN}}\n"
        )
    found = differences(load_profile(home / "a.yaml"), load_profile(home / "b.yaml"))
    assert [each.field for each in found] == ["model.served_name", "engine.environment.T_KEY"]
    assert "s3cret" not in render(found)
    assert render(found).count(MASK) == 4
