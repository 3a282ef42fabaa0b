"""Whose a directory and its files are: kept to their owner, refused without permission."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE

import pytest
from support.python_process import run_python
from support.store_client import get, open_store, put

from kvtier_store import Status, StoreError

# Root may read and write everything.
OPEN_AS_NOBODY = """
import os
from pathlib import Path
from support.store_client import get, open_store, put
from kvtier_store import StoreError
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
try:
    store = open_store(Path(sys.argv[1]))
    print(put(store, 1).name, get(store, 1).name)
    store.close()
except StoreError as error:
    print(error)
"""
NOBODY = 65534


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may look into; pytest's own is for its user alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def make(folder: Path, mode: int, *, owner: int | None = None) -> Path:
    folder.mkdir()
    folder.chmod(mode)
    if owner is not None and os.geteuid() == 0:
        os.chown(folder, owner, owner)
    return folder


def modes(folder: Path) -> dict[str, int]:
    return {path.name: S_IMODE(path.lstat().st_mode) for path in (folder, *folder.iterdir())}


def say_as_nobody(folder: Path) -> str:
    done = run_python(OPEN_AS_NOBODY, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_directory_without_permission(public):
    folder = make(public / "l3", 0o500, owner=NOBODY)
    assert say_as_nobody(folder) == f"cannot read and write {folder}: Permission denied"
    assert modes(folder) == {"l3": 0o500}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")
def test_a_directory_of_somebody_else(public):
    readable = make(public / "readable", 0o755)
    assert say_as_nobody(readable) == f"cannot read and write {readable}: Permission denied"
    assert "cannot create" in say_as_nobody(public / "new")
    assert modes(readable) == {"readable": 0o755}
    theirs = make(public / "theirs", 0o755, owner=NOBODY)
    open_store(theirs).close()
    assert modes(theirs)["theirs"] == 0o755
    # One that all may write to works, and is not ours to change.
    writable = make(public / "writable", 0o777)
    assert say_as_nobody(writable) == "OK OK"
    found = modes(writable)
    assert found.pop("writable") == 0o777
    assert set(found.values()) == {0o600}


def test_an_empty_directory_that_others_may_enter_is_kept_to_its_owner(tmp_path):
    folder = make(tmp_path / "l3", 0o755)
    open_store(folder).close()
    found = modes(folder)
    assert found.pop("l3") == 0o700
    assert set(found.values()) == {0o600}


def test_a_store_that_was_copied_with_wider_modes_is_kept_to_its_owner(tmp_path):
    folder = tmp_path / "l3"
    store = open_store(folder)
    put(store, 1)
    store.close()
    folder.chmod(0o2777)
    for path in folder.iterdir():
        path.chmod(0o664)
    (folder / "notes").touch(mode=0o644)
    store = open_store(folder)
    assert get(store, 1) is Status.OK
    found = modes(folder)
    assert found.pop("l3") == 0o700
    assert found.pop("notes") == 0o644  # not the store's
    assert set(found.values()) == {0o600}
    store.close()


def test_a_directory_that_is_refused_keeps_its_modes(tmp_path):
    folder = make(tmp_path / "l3", 0o755)
    (folder / "journal").touch(mode=0o644)
    with pytest.raises(StoreError, match="not a kvtier store and not empty"):
        open_store(folder)
    found = modes(folder)
    assert found == {"l3": 0o755, "journal": 0o644}
