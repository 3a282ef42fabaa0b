"""`kvtier store clear`: a store that is not in use, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.store_client import open_store, put

from kvtier_store import DirectorySpec, Store, StoreError

PAGE_BYTES = 4096


def make(path: Path, namespace: bytes = b"model") -> Store:
    return Store.open(
        [DirectorySpec(str(path), 1 << 26)], page_bytes=PAGE_BYTES, namespace=namespace
    )


def clear(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "kvtier_ops", "store", "clear", str(path)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_store_is_emptied_for_another_model(tmp_path):
    make(tmp_path).close()
    done = clear(tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"cleared {tmp_path}" in done.stderr
    assert list(tmp_path.iterdir()) == []
    make(tmp_path, b"another").close()


def test_another_version_and_a_stranger_s_file(tmp_path):
    make(tmp_path).close()
    with (tmp_path / "superblock").open("r+b") as file:
        file.seek(8)
        file.write(b"\x63")
    (tmp_path / "notes.txt").write_text("mine")
    assert clear(tmp_path).returncode == 0
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_store_in_use_is_left_alone_and_its_user_named(tmp_path):
    store = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    refused = clear(tmp_path)
    assert refused.returncode == 3
    assert f"in use by process {os.getpid()}" in refused.stderr
    assert sorted(tmp_path.iterdir()) == before
    store.close()


@pytest.mark.parametrize("trouble", ["empty", "foreign", "missing"])
def test_what_is_no_store_is_left_alone(tmp_path, trouble):
    folder = tmp_path / "folder"
    if trouble != "missing":
        folder.mkdir()
    if trouble == "foreign":
        (folder / "superblock").write_bytes(b"something else")
        (folder / "segment-00000").write_bytes(b"not ours")
        (folder / "thesis.tex").touch()
    refused = clear(folder)
    assert refused.returncode == 2
    assert "is not a page store" in refused.stderr
    if trouble == "foreign":
        assert "it holds `thesis.tex`, which no store writes" in refused.stderr
        assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("damage", ["magic", "checksum", "cut off", "gone"])
def test_a_store_with_a_damaged_superblock_is_emptied(tmp_path, damage):
    """The engine refuses it, and says so: there has to be a way out."""
    store = open_store(tmp_path)
    put(store, 1)
    store.close()
    superblock = tmp_path / "superblock"
    content = bytearray(superblock.read_bytes())
    content[0 if damage == "magic" else 60] ^= 1
    superblock.write_bytes(content[:50] if damage == "cut off" else content)
    if damage == "gone":
        superblock.unlink()
    (tmp_path / "lost+found").mkdir()
    with pytest.raises(StoreError):
        open_store(tmp_path)
    done = clear(tmp_path)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["lost+found"]
    open_store(tmp_path).close()


@pytest.mark.parametrize("name", ["journal", "superblock", "superblock.new"])
def test_one_name_makes_no_store(tmp_path, name):
    """A `journal` may be somebody's diary."""
    (tmp_path / name).write_text("dear diary")
    done = clear(tmp_path)
    assert done.returncode == 2
    assert "is not a page store" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_folder_is_no_file_of_a_store(tmp_path):
    store = open_store(tmp_path)
    put(store, 1)
    store.close()
    (tmp_path / "journal.new").mkdir()
    done = clear(tmp_path)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["journal.new"]
