"""Equal bytes, equal fingerprint; any other byte, another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kvtier_engine.model.errors import ModelError
from kvtier_engine.model.fingerprint import DIGEST_BYTES, model_fingerprint


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "one"))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_the_same_bytes_elsewhere(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "two"))
    assert model_fingerprint(folder) == model_fingerprint(other, workers=1)
    assert len(model_fingerprint(folder)) == DIGEST_BYTES


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("place", [0, -1])
def test_any_bit_matters(folder: Path, name: str, place: int) -> None:
    before = model_fingerprint(folder)
    flip(folder / name, place)
    assert model_fingerprint(folder) != before


def test_names_matter_and_files_are_not_run_together(folder: Path) -> None:
    before = model_fingerprint(folder)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    renamed = model_fingerprint(folder)
    (folder / "zero.safetensors").touch()
    assert len({before, renamed, model_fingerprint(folder)}) == 3


def test_the_second_time_nothing_is_read(
    folder: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model_fingerprint(folder)
    monkeypatch.setattr("kvtier_engine.model.fingerprint._READ_BYTES", 0)  # reads nothing
    told: list[tuple[int, int]] = []
    assert model_fingerprint(folder, progress=lambda *now: told.append(now)) == before
    assert told[-1][0] == told[-1][1] > 0
    # A damaged cache is no cache: without one, reading nothing gives another digest.
    for entry in (cache_home / "kvtier" / "fingerprints").iterdir():
        entry.write_text("half a li")
    assert model_fingerprint(folder) != before


def test_a_cache_that_cannot_be_written(
    folder: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model_fingerprint(folder)
    cache_home.joinpath("file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home / "file"))
    assert model_fingerprint(folder) == before


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json cannot be read: No such file"):
        model_fingerprint(tmp_path)
