"""A GGUF file becomes a folder once, whatever happens on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.models import make_runner
from support.tiny_gguf import KV_HEADS, LAYERS, TOKENS, write_gguf

from kvtier_engine.model import gguf as gguf_module
from kvtier_engine.model.errors import ModelError
from kvtier_engine.model.gguf import convert, model_folder, needs_conversion
from kvtier_engine.model.spec import read_spec


def silent(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def file(made: Path, tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return Path(shutil.copy2(made, tmp_path / "models" / "tiny.gguf"))


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.parent.glob(".*") if path.suffix != ".lock"]


def test_a_folder_is_its_own(original: Path) -> None:
    assert model_folder(original) == original
    assert not needs_conversion(original)
    assert convert(original, silent) == original


def test_the_folder_has_all_that_serving_needs(file: Path) -> None:
    told: list[float] = []
    folder = convert(file, lambda done, total: told.append(done / total))
    assert folder == model_folder(file)
    assert folder.parent == file.parent
    spec = read_spec(folder)
    assert (spec.layers, spec.kv_heads, spec.vocab) == (LAYERS, KV_HEADS, len(TOKENS))
    assert spec.eos_ids == (2,)
    assert {"tokenizer.json", "chat_template.jinja"} <= {path.name for path in folder.iterdir()}
    make_runner(folder)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert leftovers(folder) == []


def test_the_second_time_nothing_is_done(file: Path) -> None:
    folder = convert(file, silent)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert not needs_conversion(file)
    assert convert(file, silent) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_changed_file_is_converted_again(file: Path) -> None:
    folder = convert(file, silent)
    before = (folder / "model.safetensors").read_bytes()
    write_gguf(file, seed=1)
    assert needs_conversion(file)
    assert convert(file, silent) == folder
    assert (folder / "model.safetensors").read_bytes() != before
    assert leftovers(folder) == []


def test_killed_half_way(file: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from kvtier_engine.model.gguf import convert\n"
        "def progress(done, total):\n"
        "    if done * 2 >= total: os.kill(os.getpid(), signal.SIGKILL)\n"
        "convert(Path(sys.argv[1]), progress)\n"
    )
    killed = subprocess.run([sys.executable, "-P", "-c", program, file], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    folder = model_folder(file)
    assert not folder.exists()
    assert leftovers(folder)
    assert needs_conversion(file)
    assert read_spec(convert(file, silent)).layers == LAYERS
    assert leftovers(folder) == []


def test_a_place_that_cannot_be_written_to(
    file: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # root may write anywhere, so permissions would prove nothing here.
    granted = os.access
    monkeypatch.setattr(
        gguf_module.os, "access", lambda path, mode: path != file.parent and granted(path, mode)
    )
    folder = convert(file, silent)
    assert folder.is_relative_to(cache_home / "kvtier" / "converted")
    assert model_folder(file) == folder
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 something else"])
def test_another_kind_of_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.gguf is not a GGUF file"):
        convert(path, silent)


def test_a_file_cut_short(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ModelError, match=r"tiny\.gguf cannot be read"):
        convert(file, silent)
    assert not model_folder(file).exists()
    assert leftovers(model_folder(file)) == []


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        convert(tmp_path / "none.gguf", silent)
