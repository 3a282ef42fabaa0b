"""The doctor of a user who may not look at what the profile names: told, and never a check that
breaks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from ops.builders import write_gguf
from ops.doctored import load, of
from support.rights import NOBODY, as_nobody, needs_root
from support.store_client import open_store, put_all

from kvtier_ops.doctor import Finding
from kvtier_ops.doctor.checks import environment
from kvtier_ops.doctor.examine import examine
from kvtier_ops.errors import ModelError
from kvtier_ops.model.facts import read_model

TAKE = f"`sudo chown -R {NOBODY} "


@pytest.fixture
def pages(home: Path) -> Path:
    """A store that root has made."""
    home.chmod(0o755)
    folder = home / "pages"
    folder.mkdir(mode=0o700)
    store = open_store(folder)
    put_all(store, range(2))
    store.close()
    return folder


def seen_by_nobody(home: Path, *overrides: str) -> list[Finding]:
    file = load(home, *overrides)
    environment.import_errors(environment.NATIVE_MODULES)  # nobody may not run this Python
    with as_nobody():
        found = examine(file)
    assert not [each for each in found if each.broke], [each for each in found if each.broke]
    return found


def with_l3(path: Path) -> tuple[str, str]:
    return f"tiers.l3.directories=[{path}]", "tiers.l3.size=64MiB"


def test_a_store_of_root_s(home: Path, pages: Path) -> None:
    found = of(seen_by_nobody(home, *with_l3(pages)), "KVT-D324")
    assert (found.ok, found.current) == (False, f"uid {NOBODY} may not look at what is in it")
    assert found.fix == f"{TAKE}{pages}`"


@needs_root
def test_a_store_whose_folder_was_given_away_and_not_its_files(home: Path, pages: Path) -> None:
    os.chown(pages, NOBODY, -1)
    found = seen_by_nobody(home, *with_l3(pages))
    assert of(found, "KVT-D301").ok
    for check in ("KVT-D321", "KVT-D324"):
        assert (of(found, check).ok, of(found, check).fix) == (False, f"{TAKE}{pages}`")


@pytest.mark.parametrize("name", ["pages", "none/deep"])
def test_a_directory_below_one_that_may_not_be_entered(home: Path, pages: Path, name: str) -> None:
    (home / "locked").mkdir(mode=0o700)
    pages.rename(home / "locked/pages")
    found = of(seen_by_nobody(home, *with_l3(home / "locked" / name)), "KVT-D301")
    assert not found.ok
    assert found.current == f"`{home}/locked` cannot be entered by uid {NOBODY}"
    assert f"`sudo chmod a+x {home}/locked && sudo mkdir -p {home}/locked/{name} " in found.fix


@pytest.mark.parametrize(
    ("locked", "told"),
    [
        ("model", "model/model.safetensors.index.json"),
        ("model/model.safetensors", "model/model.safetensors"),
        ("model/config.json", "model/config.json"),
    ],
)
def test_a_model_that_may_not_be_read(home: Path, locked: str, told: str) -> None:
    home.chmod(0o755)
    load(home)
    (home / locked).chmod(0o700 if locked == "model" else 0o600)
    found = of(seen_by_nobody(home), "KVT-D401")
    assert found.current == f"`{home}/{told}` cannot be read: Permission denied"
    assert f"uid {NOBODY} may not read it: `namei -l {home}/{told}`" in found.fix


def test_other_files_of_a_model_that_may_not_be_read(home: Path) -> None:
    """An index that cannot be read is not one that is no index; the GGUF's folder is locked."""
    home.chmod(0o755)
    load(home)
    index = home / "model/model.safetensors.index.json"
    index.write_text('{"weight_map": {}}')
    index.chmod(0o600)
    (home / "locked").mkdir(mode=0o700)
    gguf = write_gguf(home / "locked/model.gguf", {}, {})
    with as_nobody():
        for path in (index, gguf):
            place = path if path is gguf else path.parent
            with pytest.raises(ModelError, match=f"`{path}` cannot be read: Permission denied"):
                read_model(place, "bfloat16", "auto")
    assert of(seen_by_nobody(home, f"model.path={gguf}"), "KVT-D401").fix.startswith("uid")


def test_a_python_that_may_not_be_started(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment whose Python lies in a folder of root's."""
    (home / "python").touch(0o644)
    monkeypatch.setattr(sys, "executable", f"{home}/python")
    monkeypatch.setattr(environment, "NATIVE_MODULES", ("os", "sys"))  # not asked for before
    found = of(examine(load(home)), "KVT-D102")
    assert found.current == f"{home}/python cannot be started: Permission denied"
    assert "namei -l" in found.fix
