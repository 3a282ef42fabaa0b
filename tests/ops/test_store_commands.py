"""`kvtier store stat|ls|verify`, as an operator runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from support.store_client import NAMESPACE, PAGE_BYTES, SLOT_BYTES, get, key, open_store, put
from support.store_files import find_slots

from kvtier_ops.store.facts import ago, chains
from kvtier_store import Status, inspect

PAGES = 5


@pytest.fixture
def folder(tmp_path):
    """Two chains: 0 - 1 - 2 and 0 - 1 - 3, and 4 alone."""
    store = open_store(tmp_path / "l3")
    for i, parent in ((0, None), (1, 0), (2, 1), (3, 1), (4, None)):
        assert put(store, i, parent) is Status.OK
    assert get(store, 2) is Status.OK
    store.close()
    return tmp_path / "l3"


def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "kvtier_ops", "store", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def flip(folder: Path, i: int) -> None:
    slot = find_slots(folder, PAGE_BYTES)[key(i)]
    slot.write(bytes([slot.read()[4096] ^ 1]), 4096)


def test_stat(folder):
    (facts,) = json.loads(run("stat", "--json", folder).stdout)
    assert facts["problems"] == []
    assert facts["pages"] == PAGES
    assert facts["chains"] == 2
    assert facts["page_bytes"] == PAGE_BYTES
    assert facts["namespace"] == NAMESPACE.hex()
    assert facts["in_use_by"] == ""
    assert facts["written_bytes"] == PAGES * PAGE_BYTES
    assert facts["hit_bytes"] == PAGE_BYTES
    assert facts["disk_written_bytes"] > PAGES * SLOT_BYTES
    assert facts["disk_written_bytes_last_day"] == facts["disk_written_bytes"]
    assert facts["write_amplification"] == facts["disk_written_bytes"] / facts["written_bytes"]
    text = run("stat", folder).stdout
    assert f"{PAGES} of" in text
    assert all(len(line) <= 80 for line in text.splitlines()[1:])


def test_a_store_in_use_can_be_looked_at_but_not_verified(folder):
    store = open_store(folder)
    (facts,) = json.loads(run("stat", "--json", folder).stdout)
    assert f"process {os.getpid()}" in facts["in_use_by"]
    assert len(json.loads(run("ls", "--json", folder).stdout)) == 2
    assert f"in use by process {os.getpid()}" in run("verify", folder, code=3).stderr
    assert put(store, 9) is Status.OK
    store.close()


def test_ls(folder):
    found = {chain["head"]: chain for chain in json.loads(run("ls", "--json", folder).stdout)}
    assert found[key(0).hex()]["pages"] == 4
    assert found[key(0).hex()]["depth"] == 3
    assert found[key(4).hex()]["pages"] == 1
    assert not any(chain["is_cut"] for chain in found.values())
    text = run("ls", folder, "--limit", "1")
    assert len(text.stdout.splitlines()) == 2
    assert "1 more" in text.stderr


def test_a_chain_without_its_beginning(folder):
    store = open_store(folder)
    store.evict([key(0)])
    store.close()
    cut = [chain for chain in chains(inspect(str(folder)).pages) if chain.is_cut]
    assert [(chain.head, chain.pages) for chain in cut] == [(key(1).hex(), 3)]


def test_verify_finds_and_drops_what_is_bad(folder):
    assert "5 pages" in run("verify", folder).stdout
    flip(folder, 2)
    before = inspect(str(folder)).fitting_capacity_bytes
    (result,) = json.loads(run("verify", "--json", folder, code=3).stdout)
    assert result["bad"] == {"checksum": 1}
    assert result["pages"] == PAGES
    assert inspect(str(folder)).fitting_capacity_bytes == before  # not cut to another capacity
    assert "4 pages" in run("verify", folder).stdout
    store = open_store(folder)
    assert [get(store, i) for i in range(PAGES)] == [
        Status.MISS if i == 2 else Status.OK for i in range(PAGES)
    ]
    store.close()


def test_problems_are_told(folder):
    os.truncate(folder / "segment-00000", 2 * SLOT_BYTES + 1)
    (folder / "notes.txt").write_text("mine")
    (folder / "journal").chmod(0o644)
    text = run("stat", folder, code=4).stdout
    assert f"`segment-00000` is cut off at {2 * SLOT_BYTES + 1} bytes" in text
    assert "`notes.txt` is none of the store's files" in text
    assert "`journal` can be read or written by others" in text


def test_a_journal_that_is_no_file_at_all(folder):
    (folder / "journal").unlink()
    os.mkfifo(folder / "journal")
    text = run("stat", folder, code=4).stdout
    assert "`journal` is not a regular file" in text


@pytest.mark.parametrize("command", ["stat", "ls", "verify"])
def test_what_is_no_store(tmp_path, command):
    missing = run(command, tmp_path / "missing", code=2)
    assert "cannot open the directory" in missing.stderr
    assert "is not a page store" in run(command, tmp_path, code=2).stderr
    (tmp_path / "superblock").write_bytes(b"x" * 8192)
    foreign = run(command, tmp_path, code=2).stderr
    assert "is not one of kvtier" in foreign
    assert f"`kvtier store clear {tmp_path}` empties it" in foreign


def test_another_version(folder):
    with (folder / "superblock").open("r+b") as file:
        file.seek(8)
        file.write(b"\x63")
    assert "version 99" in run("stat", folder, code=4).stdout
    assert "version 99" in run("verify", folder, code=3).stderr


def test_wrong_rate(folder):
    assert "--rate" in run("verify", folder, "--rate", "fast", code=2).stderr


def test_ctrl_c_while_verifying(folder):
    """At a rate at which it would take minutes; the store is whole afterwards."""
    arguments = ["-P", "-m", "kvtier_ops", "store", "verify", str(folder), "--rate", "100B"]
    child = pexpect.spawn(sys.executable, arguments, dimensions=(24, 80), timeout=60)
    child.expect("%")
    child.kill(signal.SIGINT)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert "Traceback" not in (child.before or b"").decode()
    assert "5 pages" in run("verify", folder).stdout


def test_ago():
    assert ago(None, 100) == "-"
    assert ago(100, 100) == "just now"
    assert ago(200, 100) == "just now"  # a clock that was set back
    assert ago(0, 60) == "1 minute ago"
    assert ago(0, 3 * 3600) == "3 hours ago"
    assert ago(0, 86400 * 2.5) == "2 days ago"
