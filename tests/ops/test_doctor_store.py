"""Checks of what lies in L3's directories: whose, which format, which model, and how sound."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from pathlib import Path

import pytest
from ops.builders import write_safetensors
from ops.doctored import all_of, context_of, failing, load, look
from support.mounted import mounted
from support.store_client import PAGE_BYTES, key, open_store, put_all
from support.store_files import Slot, find_slots, swap, truncate, zero

from kvtier_engine.kv.keys import namespace
from kvtier_engine.model.fingerprint import known_fingerprint, model_fingerprint
from kvtier_ops import cli
from kvtier_ops.doctor import Context
from kvtier_ops.doctor.checks import environment
from kvtier_ops.host import probe
from kvtier_store import DirectorySpec, Store


@pytest.fixture
def pages(home: Path) -> Path:
    folder = home / "pages"
    folder.mkdir(mode=0o700)
    return folder


def context(home: Path, *folders: Path) -> Context:
    """Of the profile alone: whatever pages there are."""
    names = ", ".join(map(str, folders))
    return Context(load(home, f"tiers.l3.directories=[{names}]", "tiers.l3.size=64MiB").profile)


def filled(*folders: Path, count: int = 8) -> None:
    store = open_store(*folders)
    put_all(store, range(count))
    store.close()


def test_lock(home: Path, pages: Path) -> None:
    assert not all_of("KVT-D303", context(home, pages))
    lock = pages / "lock"
    lock.write_text("pid 77 (kvtier)")
    assert look("KVT-D303", context(home, pages)).ok
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert failing("KVT-D303", context(home, pages)).current == "in use by pid 77 (kvtier)"


def test_lock_of_a_real_store(home: Path, pages: Path) -> None:
    store = open_store(pages)
    try:
        current = failing("KVT-D303", context(home, pages)).current
        assert current.startswith(f"in use by process {os.getpid()} ("), "a check reads the number"
        assert not all_of("KVT-D323", context(home, pages)), "what is written cannot be judged"
    finally:
        store.close()
    assert look("KVT-D303", context(home, pages)).ok


def test_content(home: Path, pages: Path) -> None:
    assert look("KVT-D321", context(home, pages)).current == "empty"
    (pages / "lost+found").mkdir()
    assert look("KVT-D321", context(home, pages)).ok
    (pages / "lost+found").rmdir()
    filled(pages)
    assert look("KVT-D321", context(home, pages)).current == "a page store of version 2"


def test_a_foreign_directory(home: Path, pages: Path) -> None:
    (pages / "photo.jpg").touch()
    found = failing("KVT-D321", context(home, pages))
    assert found.current == "no page store, and it holds `photo.jpg`"
    assert f"{pages}/kvtier" in found.fix


@pytest.mark.parametrize(("version", "word"), [(1, "an older"), (3, "a newer")])
def test_another_format(home: Path, pages: Path, version: int, word: str) -> None:
    filled(pages)
    with (pages / "superblock").open("r+b") as file:
        file.seek(8)
        file.write(struct.pack("<I", version))
    found = look("KVT-D321", context(home, pages))
    assert found.current == f"a page store of {word} version, {version}"
    assert f"kvtier store clear {pages}" in found.fix
    assert not all_of("KVT-D322", context(home, pages))
    assert not all_of("KVT-D323", context(home, pages))


@pytest.mark.parametrize("content", [b"", b"KVTSTORE", b"X" * 8192])
def test_a_superblock_that_is_none(home: Path, pages: Path, content: bytes) -> None:
    (pages / "superblock").write_bytes(content)
    found = failing("KVT-D321", context(home, pages))
    assert "is damaged, or another program's" in found.current
    if content != b"KVTSTORE":  # what may be anybody's is not to be removed by a command of ours
        assert found.fix.endswith(f"`rm {pages}/superblock`")
        (pages / "segment-00000").touch()
    assert failing("KVT-D321", context(home, pages)).fix == f"`kvtier store clear {pages}`"
    (pages / "thesis.tex").touch()
    fix = failing("KVT-D321", context(home, pages)).fix
    assert "move what no store writes (`thesis.tex`) elsewhere, and `kvtier store clear" in fix


@pytest.mark.parametrize("at", [0, 13, 20, 60, 75, 103])
def test_a_damaged_superblock(home: Path, pages: Path, at: int) -> None:
    """What it says fails its checksum: nothing is told of its pages, and the fix works."""
    filled(pages)
    assert look("KVT-D321", context(home, pages)).ok
    content = bytearray((pages / "superblock").read_bytes())
    content[at] ^= 1
    (pages / "superblock").write_bytes(content)
    found = failing("KVT-D321", context(home, pages))
    assert found.current == "its superblock is damaged, or another program's"
    assert found.fix == f"`kvtier store clear {pages}`"
    assert not all_of("KVT-D322", context(home, pages))
    assert not all_of("KVT-D323", context(home, pages))
    assert cli.run(["store", "verify", str(pages)]) == 2
    assert cli.run(["store", "clear", str(pages)]) == 0
    assert look("KVT-D321", context(home, pages)).current == "empty"


def test_a_store_without_its_superblock(home: Path, pages: Path) -> None:
    filled(pages)
    (pages / "superblock").unlink()
    found = failing("KVT-D321", context(home, pages))
    assert found.current == "no superblock, and it holds `journal`"
    assert found.fix == f"`kvtier store clear {pages}`"


def test_pages_of_another_size(home: Path, pages: Path) -> None:
    file = load(home, f"tiers.l3.directories=[{pages}]", "tiers.l3.size=64MiB")
    planned = context_of(file, probe(directories=[pages]), Path("/"))
    assert planned.plan is not None
    filled(pages)
    found = look("KVT-D322", planned)
    assert not found.ok
    assert found.current.startswith(f"pages of {PAGE_BYTES:,} bytes, namespace ")
    assert found.required == f"pages of {planned.plan.page_bytes:,} bytes of one model"
    assert "64 tokens of" in found.reason
    (home / "right").mkdir()
    Store.open(
        [DirectorySpec(str(home / "right"), 64 << 20)],
        page_bytes=planned.plan.page_bytes,
        namespace=b"right",
    ).close()
    file = load(home, f"tiers.l3.directories=[{home}/right]", "tiers.l3.size=64MiB")
    right = context_of(file, probe(directories=[home / "right"]), Path("/"))
    assert look("KVT-D322", right).ok


def test_pages_of_other_weights(home: Path, pages: Path) -> None:
    """Of the same size: told once an engine has kept the digest of the weights."""
    file = load(home, f"tiers.l3.directories=[{pages}]", "tiers.l3.size=64MiB")
    planned = context_of(file, probe(directories=[pages]), Path("/"))
    assert planned.plan is not None
    folder = home / "model"
    assert known_fingerprint(folder) is None

    def store(space: bytes) -> None:
        for path in pages.iterdir():
            path.unlink()
        spec = DirectorySpec(str(pages), 64 << 20)
        Store.open([spec], page_bytes=planned.plan.page_bytes, namespace=space).close()

    store(b"other weights...")
    assert look("KVT-D322", planned).ok, "nothing is known yet"
    ours = namespace(planned.plan.engine_config(home), model_fingerprint(folder))
    found = look("KVT-D322", planned)
    assert not found.ok
    assert f"namespace {ours.hex()[:12]}" in found.required
    store(ours)
    assert look("KVT-D322", planned).current.endswith(", this model's")
    write_safetensors(folder / "model.safetensors", {"a": [20, 40], "c": [200]})
    assert known_fingerprint(folder) is None, "another file is another model"


def test_directories_of_two_models(home: Path) -> None:
    for name in ("a", "b"):
        (home / name).mkdir()
        spec = DirectorySpec(str(home / name), 16 << 20)
        Store.open([spec], page_bytes=PAGE_BYTES, namespace=name.encode()).close()
    found = look("KVT-D322", context(home, home / "a", home / "b"))
    assert not found.ok
    assert f"namespace 61, not that of `{home}/b`" in found.current
    assert look("KVT-D322", context(home, home / "a")).ok


def test_sample(home: Path, pages: Path) -> None:
    filled(pages)
    before = {path: path.read_bytes() for path in pages.iterdir()}
    found = look("KVT-D323", context(home, pages))
    assert (found.ok, found.current) == (True, "8 of 8 pages were read, all sound")
    assert {path: path.read_bytes() for path in pages.iterdir()} == before


def shift(slot: Slot) -> None:
    """Bytes right, header right, but those of another write of the page."""
    slot.write(struct.pack("<Q", 9999), at=104)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (zero, "its header is damaged"),
        (lambda slot: slot.write(b"\xff", 4096 + 100), "its bytes are not those"),
        (shift, "its header is damaged"),
        (truncate, "cut off"),
    ],
)
def test_a_bad_page_in_the_sample(home: Path, pages: Path, damage: object, word: str) -> None:
    filled(pages)
    assert callable(damage)
    # The last slot of the file: nothing lies behind it when it is cut off.
    slots = find_slots(pages, PAGE_BYTES)
    damage(max(slots.values(), key=lambda slot: slot.offset))
    found = look("KVT-D323", context(home, pages))
    assert not found.ok
    assert "1 thing is bad: " in found.current
    assert word in found.current
    assert f"kvtier store verify {pages}" in found.fix


def test_pages_that_changed_places(home: Path, pages: Path) -> None:
    filled(pages)
    slots = find_slots(pages, PAGE_BYTES)
    swap(slots[key(1)], slots[key(2)])
    assert "2 things are bad" in failing("KVT-D323", context(home, pages)).current
    assert "it holds another page" in look("KVT-D323", context(home, pages)).current


def test_a_page_of_another_store(home: Path, pages: Path) -> None:
    (home / "other").mkdir()
    filled(pages)
    filled(home / "other")
    mine, theirs = find_slots(pages, PAGE_BYTES), find_slots(home / "other", PAGE_BYTES)
    mine[key(3)].write(theirs[key(3)].read())
    assert "it is of another store" in failing("KVT-D323", context(home, pages)).current


def test_a_file_of_somebody_else_among_the_pages(home: Path, pages: Path) -> None:
    """`kvtier store verify` would leave it there, and no disk is to blame."""
    filled(pages)
    (pages / "thesis.tex").touch(0o600)
    found = failing("KVT-D323", context(home, pages))
    assert "`thesis.tex` is none of the store's files" in found.current
    assert (
        found.fix == f"move what is none of the store's files out of {pages}: the store lets it be"
    )
    assert cli.run(["store", "verify", str(pages)]) == 0
    assert (pages / "thesis.tex").exists()
    (pages / "thesis.tex").unlink()
    (pages / "journal").chmod(0o644)
    assert failing("KVT-D323", context(home, pages)).fix.startswith(f"`chmod -R go= {pages}`")
    (pages / "journal").chmod(0o600)
    zero(find_slots(pages, PAGE_BYTES)[key(1)])
    assert failing("KVT-D323", context(home, pages)).fix.startswith("`kvtier store verify")


def test_a_bad_page_in_memory_is_no_drive_s_fault(home: Path) -> None:
    with mounted("tmpfs", "size=64m,mode=700", home / "memory") as place:
        filled(place / "l3")
        zero(find_slots(place / "l3", PAGE_BYTES)[key(1)])
        fix = failing("KVT-D323", context(home, place / "l3")).fix
    assert "it lies in memory" in fix
    assert "smartctl" not in fix


def test_a_store_is_not_read_where_reading_it_would_end_us(
    home: Path, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(pages)
    flip = find_slots(pages, PAGE_BYTES)[key(1)]
    flip.write(b"\xff", 4096)
    monkeypatch.setattr(environment, "NATIVE_MODULES", ("os; os.kill(os.getpid(), 4)",))
    assert not all_of("KVT-D323", context(home, pages))


def test_files_that_may_not_be_opened(
    home: Path, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not all_of("KVT-D324", context(home, pages))
    filled(pages)
    assert look("KVT-D324", context(home, pages)).ok
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: "journal" not in str(path) and real(path, mode)
    )
    found = failing("KVT-D324", context(home, pages))
    assert found.current.startswith("`journal` cannot be, by uid")


def test_a_store_on_a_read_only_mount_is_not_told_to_change_hands(home: Path) -> None:
    with mounted("tmpfs", "size=64m,mode=700", home / "place") as place:
        filled(place / "l3")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        assert not all_of("KVT-D324", context(home, place / "l3"))
        assert "mounted read-only" in failing("KVT-D301", context(home, place / "l3")).current
