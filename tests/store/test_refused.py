"""Directories that are not, or no longer, a store of this version: refused, never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.store_client import open_store, put

from kvtier_store import StoreError


def listing(folder: Path) -> dict[str, bytes]:
    """The lock names its last holder; but where there was none, none is to be left."""
    return {p.name: b"" if p.name == "lock" else p.read_bytes() for p in folder.iterdir()}


@pytest.fixture
def used(tmp_path):
    store = open_store(tmp_path)
    put(store, 1)
    store.close()
    return tmp_path


def refuse(folder: Path, message: str) -> None:
    before = listing(folder)
    with pytest.raises(StoreError, match=message):
        open_store(folder)
    assert listing(folder) == before


def damage(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def test_a_directory_with_other_files(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not lose me")
    refuse(tmp_path, "is not a kvtier store and not empty .*thesis.tex")


def test_a_store_without_its_superblock(used):
    (used / "superblock").unlink()
    refuse(used, f"is a store without its superblock; to empty it: kvtier store clear {used}")
    (used / "thesis.tex").write_text("do not lose me")
    refuse(used, "is not a kvtier store and not empty")


def test_a_superblock_of_another_version(used):
    damage(used / "superblock", 8, b"\x63")
    refuse(used, f"has format version 99, .* version 2; to empty it: kvtier store clear {used}")


@pytest.mark.parametrize("at", [0, 12, 20, 40, 80], ids=["magic", "sum", "uuid", "name", "size"])
def test_a_damaged_superblock(used, at):
    byte = (used / "superblock").read_bytes()[at]
    damage(used / "superblock", at, bytes([byte ^ 1]))
    refuse(used, f"damaged superblock, .*kvtier store clear {used}")


def test_a_truncated_superblock(used):
    os.truncate(used / "superblock", 50)
    refuse(used, "truncated superblock")


def test_a_creation_that_was_interrupted_is_taken_up(tmp_path):
    (tmp_path / "lock").touch()
    (tmp_path / "superblock.new").write_bytes(b"half")
    open_store(tmp_path).close()
    assert not (tmp_path / "superblock.new").exists()


def test_a_symbolic_link(tmp_path, used):
    link = tmp_path / "link"
    link.symlink_to(used)
    with pytest.raises(StoreError, match="link is a symbolic link"):
        open_store(link)


def test_a_file_in_the_place_of_the_directory(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file is not a directory"):
        open_store(tmp_path / "file")
    with pytest.raises(StoreError, match=r"cannot create .*file/l3"):
        open_store(tmp_path / "file" / "l3")


def test_a_segment_that_is_a_symbolic_link(used):
    target = used.parent / f"{used.name}-target"
    (used / "segment-00000").rename(target)
    (used / "segment-00000").symlink_to(target)
    with pytest.raises(StoreError, match="cannot open the segments"):
        open_store(used)
