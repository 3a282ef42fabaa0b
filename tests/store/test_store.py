"""The store through its Python interface."""

from __future__ import annotations

import ctypes
import os
import select
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.store_client import (
    NAMESPACE,
    PAGE_BYTES,
    ROOT,
    capacity,
    get,
    key,
    open_store,
    page,
    put,
    put_all,
)

from kvtier_store import (
    DirectorySpec,
    Get,
    Put,
    Status,
    Store,
    StoreError,
    StoreOptions,
    crc32c,
)


def test_crc32c_goes_on_from_its_seed():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(memoryview(b"6789"), crc32c(b"12345")) == 0xE3069283


def test_a_page_comes_back_now_and_after_reopening(tmp_path):
    store = open_store(tmp_path / "l3")
    assert put(store, 1) is Status.OK
    assert put(store, 1) is Status.ALREADY_PRESENT
    assert get(store, 1) is Status.OK
    assert get(store, 2) is Status.MISS
    store.close()
    store = open_store(tmp_path / "l3")
    assert get(store, 1) is Status.OK
    stats = store.stats()
    assert (stats.pages, stats.recovered_pages, stats.hits) == (1, 1, 1)
    store.close()


def test_a_page_may_lie_in_several_pieces(tmp_path):
    store = open_store(tmp_path)
    memory = ctypes.create_string_buffer(page(1), PAGE_BYTES)
    at = ctypes.addressof(memory)
    cut = [(at, 1), (at + 1, 4000), (at + 4001, PAGE_BYTES - 4001)]
    store.submit_put([Put(1, key(1), ROOT, cut)])
    assert store.wait(60)[0].status is Status.OK
    assert get(store, 1) is Status.OK
    store.close()


def test_lookups_follow_a_chain(tmp_path):
    store = open_store(tmp_path)
    put_all(store, [1, 2, 4])
    keys = [key(i) for i in (1, 2, 3, 4)]
    assert store.contains(keys) == [True, True, False, True]
    assert store.longest_prefix(keys) == 2
    assert store.longest_prefix([]) == 0
    store.close()


def test_the_least_recently_used_leaf_goes_first(tmp_path):
    store = open_store(tmp_path, pages=4)
    for i in range(3):
        put(store, i, parent=i - 1 if i else None)
    put(store, 10)
    put(store, 11)  # a fifth: page 2 is the oldest leaf, though 0 and 1 are older
    held = store.contains([key(i) for i in (0, 1, 2, 10, 11)])
    assert held == [True, True, False, True, True]
    store.touch([key(1)])
    put(store, 12)  # of the leaves 1, 10 and 11, page 10 is now the oldest
    assert store.contains([key(1), key(10)]) == [True, False]
    assert store.stats().evicted == 2
    store.close()


def test_pinned_pages_stay(tmp_path):
    store = open_store(tmp_path, pages=2)
    put_all(store, [1, 2])
    store.pin([key(1), key(2)])
    assert put(store, 3) is Status.NO_ROOM
    assert store.evict([key(1)]) == 0
    store.unpin([key(1)])
    assert put(store, 3) is Status.OK
    assert store.contains([key(1), key(2)]) == [False, True]
    store.close()


def test_evicted_and_cleared_pages_do_not_come_back(tmp_path):
    store = open_store(tmp_path)
    put_all(store, range(6))
    store.flush()
    assert store.evict([key(0), key(77)]) == 1
    store.close()
    store = open_store(tmp_path)
    assert store.contains([key(0), key(1)]) == [False, True]
    assert store.clear() == 5
    store.close()
    store = open_store(tmp_path)
    assert store.stats().recovered_pages == 0
    store.close()


def test_the_event_fd_is_readable_while_completions_wait(tmp_path):
    store = open_store(tmp_path)

    def readable(timeout: float) -> bool:
        return bool(select.select([store.event_fd()], [], [], timeout)[0])

    assert not readable(0)
    memory = ctypes.create_string_buffer(page(1), PAGE_BYTES)
    piece = [(ctypes.addressof(memory), PAGE_BYTES)]
    store.submit_put([Put(i, key(i), ROOT, piece) for i in range(3)])
    while len(store.poll(limit=0)) == 0 and store.stats().writes_queued:
        assert readable(60)
    assert len(store.poll(limit=2)) == 2
    assert readable(60)
    assert len(store.poll()) == 1
    assert not readable(0)
    store.close()


def test_capacity_covers_all_that_lies_on_disk_also_after_a_change(tmp_path):
    def on_disk() -> int:
        return sum(entry.stat().st_blocks * 512 for entry in tmp_path.iterdir())

    for pages in (40, 10, 60):
        store = open_store(tmp_path, pages=pages)
        assert store.stats().capacity_pages == pages
        assert store.stats().pages <= pages
        for i in range(100):
            put(store, i)
        assert store.stats().pages == pages
        assert on_disk() <= capacity(pages)
        assert store.stats().used_bytes <= capacity(pages)
        store.close()
        assert on_disk() <= capacity(pages)


def test_pages_spread_over_directories_and_a_missing_one_takes_only_its_own(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    store = open_store(first, second, pages=20)
    put_all(store, range(20))
    assert all(get(store, i) is Status.OK for i in range(20))
    store.close()
    store = open_store(first, pages=20)
    assert store.stats().pages == 10
    assert {get(store, i) for i in range(20)} == {Status.OK, Status.MISS}
    store.close()


def test_a_page_of_another_size_is_refused_whole(tmp_path):
    store = open_store(tmp_path)
    memory = ctypes.create_string_buffer(PAGE_BYTES)
    at = ctypes.addressof(memory)
    good, bad = [(at, PAGE_BYTES)], [(at, PAGE_BYTES - 1)]
    with pytest.raises(ValueError, match=r"a page is 5000 bytes .* not 4999 bytes in 1"):
        store.submit_get([Get(1, key(1), good), Get(2, key(2), bad)])
    assert store.poll() == []
    with pytest.raises(ValueError, match="a key has 16 bytes, not 3"):
        store.contains([b"abc"])
    store.close()


def test_options_are_checked(tmp_path):
    with pytest.raises(TypeError, match="no field `io_thread`"):
        StoreOptions(io_thread=3)
    with pytest.raises(StoreError, match="read_depth is 129"):
        open_store(tmp_path, read_depth=129)
    with pytest.raises(StoreError, match="write_depth is 0"):
        open_store(tmp_path, write_depth=0)


def test_only_the_owner_may_look(tmp_path):
    store = open_store(tmp_path / "l3")
    put(store, 1)
    assert stat.S_IMODE((tmp_path / "l3").stat().st_mode) == 0o700
    for entry in (tmp_path / "l3").iterdir():
        assert stat.S_IMODE(entry.stat().st_mode) == 0o600, entry
    store.close()


OPEN_AND_SAY = """
import sys
from kvtier_store import DirectorySpec, Store, StoreError
try:
    Store.open([DirectorySpec(sys.argv[1], 1 << 20)], page_bytes=5000, namespace=b"test")
except StoreError as error:
    print(error)
"""


def test_a_second_process_is_told_who_has_it(tmp_path):
    store = open_store(tmp_path)
    command = [sys.executable, "-P", "-c", OPEN_AND_SAY, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"{tmp_path} is in use by process {os.getpid()} (" in said
    with pytest.raises(StoreError, match="in use"):
        open_store(tmp_path)
    store.close()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


USE_AFTER_FORK = """
import os, sys
from kvtier_store import StoreError
from support.store_client import open_store, put
store = open_store(sys.argv[1])
child = os.fork()
if child == 0:
    try:
        store.contains([])
    except StoreError as error:
        os.write(1, str(error).encode())
    del store
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
put(store, 1)
"""


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    tests = str(Path(__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {tests!r})\n" + code
    command = [sys.executable, "-P", "-c", code, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_forked_child_cannot_use_the_store_and_does_no_harm(tmp_path):
    done = run_python("from pathlib import Path\n" + USE_AFTER_FORK, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a forked child cannot use it" in done.stdout
    store = open_store(tmp_path)
    assert get(store, 1) is Status.OK
    store.close()


def test_leaving_the_interpreter_with_an_open_store_makes_its_pages_durable(tmp_path):
    code = (
        "from support.store_client import open_store, put\n"
        "store = open_store(sys.argv[1], commit_interval_s=1000)\n"
        "put(store, 1)\n"
    )
    done = run_python(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    store = open_store(tmp_path)
    assert get(store, 1) is Status.OK
    store.close()


def test_nothing_but_completions_after_close(tmp_path):
    store = open_store(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="the store is closed"):
        store.contains([key(1)])
    assert store.poll() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"page_bytes": 4096}, "holds pages of 5000 bytes, not 4096"),
        ({"namespace": b"other"}, "another namespace"),
        ({"capacity": 1000}, "a capacity of 1000 bytes"),
    ],
)
def test_a_directory_for_other_pages_is_refused_untouched(tmp_path, changes, message):
    store = open_store(tmp_path)
    put(store, 1)
    store.close()
    fields = {"page_bytes": PAGE_BYTES, "namespace": NAMESPACE, "capacity": capacity(16)} | changes
    spec = DirectorySpec(str(tmp_path), fields.pop("capacity"))
    with pytest.raises(StoreError, match=message):
        Store.open([spec], **fields)
    store = open_store(tmp_path)
    assert get(store, 1) is Status.OK
    store.close()


def test_a_directory_that_holds_no_leaf_makes_room_all_the_same(tmp_path):
    """Pages go to two directories in turn: one gets all parents, the other all children."""
    store = open_store(tmp_path / "a", tmp_path / "b", pages=6)
    for i in range(0, 12, 2):
        assert put(store, i) is Status.OK
        assert put(store, i + 1, parent=i) is Status.OK
    assert put(store, 12) is Status.OK
    assert put(store, 13) is Status.OK
    store.close()


def test_a_page_that_names_itself_as_parent_can_be_evicted(tmp_path):
    store = open_store(tmp_path / "a", pages=2)
    for i in range(4):
        assert put(store, i, parent=i) is Status.OK
    store.close()


def test_a_relative_path_means_the_same_for_ever(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store(Path("l3"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for i in range(5):  # each commit looks whether the directory is still at its path
        assert put(store, i) is Status.OK
        store.flush()
    assert store.stats().directories[0].path == str(tmp_path / "l3")
    assert not store.stats().degraded
    store.close()
