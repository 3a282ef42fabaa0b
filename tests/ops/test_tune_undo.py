"""The journal: whatever happens in the middle, the host is as it was before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ops.tuned import (
    CHANGES,
    READAHEAD,
    FakeKernel,
    more_pages,
    number,
    pool,
    small_kernel,
    state,
)

from kvtier_ops.errors import HostError
from kvtier_ops.tune import apply as applying
from kvtier_ops.tune.change import Kind, Setting
from kvtier_ops.tune.journal import journal_path, open_journal, read_journal
from kvtier_ops.tune.owner import Owner, this_process
from kvtier_ops.tune.undo import is_stale, put_back_stale

pytestmark = pytest.mark.host  # hugepages, /dev/shm: one at a time


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return small_kernel(tmp_path / "root")


def test_applied_and_put_back(kernel: FakeKernel) -> None:
    assert all(result.ok for result in kernel.apply(CHANGES))
    assert state(kernel) == ("300", "120", "4096")
    assert all(done.changed for done in kernel.undo())
    assert state(kernel) == ("10", "20", "128")
    assert not journal_path().exists()


def test_each_change_is_in_the_journal_before_it_is_made(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    write = Setting.write

    def spy(self: Setting, root: Path, value: str) -> None:
        entries = read_journal(root).entries
        seen.append([entry.got for entry in entries if entry.setting == self])
        write(self, root, value)

    monkeypatch.setattr(Setting, "write", spy)
    kernel.apply(CHANGES)
    assert seen
    assert all(each == [None] for each in seen)


def test_what_others_added_meanwhile_stays(kernel: FakeKernel) -> None:
    kernel.apply(CHANGES)
    kernel.put(pool(0), 300 + 7)
    kernel.put(READAHEAD, 256)
    done = kernel.undo()
    assert state(kernel) == ("17", "20", "256")
    assert [each.note for each in done if each.note] == [
        "is `256` now, which kvtier did not set: left as it is"
    ]


def test_two_owners_of_one_number_the_last_one_puts_it_back(kernel: FakeKernel) -> None:
    a, b = Owner("a", 1, 1), Owner("b", 1, 2)
    kernel.apply([number(READAHEAD, 128, 4096)], a)
    kernel.apply([number(READAHEAD, 128, 4096)], b)
    kernel.apply([number(READAHEAD, 128, 4096)], b)  # a second time: it has it already
    assert len(read_journal(kernel.root).entries) == 2
    [left] = kernel.undo(lambda entry: entry.owner == a)
    assert left.note == "is still wanted by b"
    assert kernel.says(READAHEAD) == "4096"
    kernel.undo(lambda entry: entry.owner == b)
    assert kernel.says(READAHEAD) == "128"


def test_owners_that_are_gone_are_told_from_those_that_live(kernel: FakeKernel) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    gone = Owner("gone", child, 5)
    os.waitpid(child, 0)
    here = this_process("here")
    again = Owner("again", here.pid, here.started + 1)  # our pid, given to another before
    for owner in (gone, here, again):
        kernel.apply([more_pages(pool(0), int(kernel.says(pool(0))), 1000 + owner.started)], owner)
    with open_journal(kernel.root) as journal:
        assert [is_stale(entry) for entry in journal.entries] == [True, False, True]
        assert len(put_back_stale(journal, kernel.root)) == 2
        assert [entry.owner.name for entry in journal.entries] == ["here"]


def test_a_reboot_has_put_everything_back(kernel: FakeKernel) -> None:
    kernel.apply(CHANGES)
    kernel.put("/proc/sys/kernel/random/boot_id", "two")
    with open_journal(kernel.root) as journal:
        assert (journal.entries, journal.forgotten) == ([], 3)
    assert kernel.undo() == []
    assert state(kernel) == ("300", "120", "4096")  # nothing of this boot is ours


def test_a_journal_of_another_host_is_not_forgotten(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Homes on a network are one for all nodes, which have booted at other times."""
    kernel.apply(CHANGES)
    kernel.put("/proc/sys/kernel/random/boot_id", "two")
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    with pytest.raises(HostError, match="is of the host") as raised:
        kernel.apply(CHANGES)
    assert "XDG_STATE_HOME" in raised.value.problems[0].hint
    kernel.put("/proc/sys/kernel/random/boot_id", "one")  # a container of the same host
    assert len(read_journal(kernel.root).entries) == 3


@pytest.mark.parametrize("found", [128, 64])
def test_what_somebody_else_has_set_since_is_set_again(kernel: FakeKernel, found: int) -> None:
    """An entry says what was changed, not how it is now."""
    kernel.apply([number(READAHEAD, 128, 4096)])
    kernel.put(READAHEAD, found)
    [result] = kernel.apply([number(READAHEAD, found, 4096)])
    assert result.ok
    assert kernel.says(READAHEAD) == "4096"
    kernel.undo()
    assert kernel.says(READAHEAD) == str(found)


def test_what_the_kernel_has_rounded_is_put_back(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Setting.write
    monkeypatch.setattr(
        Setting, "write", lambda s, root, value: write(s, root, str(int(value) // 100 * 100))
    )
    kernel.apply([number(READAHEAD, 100, 4096)])
    assert kernel.says(READAHEAD) == "4000"
    assert [done.note for done in kernel.undo()] == [""]
    assert kernel.says(READAHEAD) == "100"


def test_a_drive_that_was_unplugged_is_forgotten(kernel: FakeKernel) -> None:
    kernel.apply(CHANGES)
    (kernel.root / READAHEAD.lstrip("/")).unlink()
    assert [each.note for each in kernel.undo() if each.note] == ["is not there any more"]
    assert not journal_path().exists()


def test_a_journal_that_cannot_be_written_changes_nothing(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kvtier_ops.tune.journal._replace", full)
    with pytest.raises(HostError, match="without it nothing is changed"):
        kernel.apply(CHANGES)
    assert state(kernel) == ("10", "20", "128")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"version": 1, "boot": "one", "entries": [{}]}',
        '{"version": 1}',
        '{"version": 2, "boot": "one", "entries": []}',
    ],
)
def test_a_damaged_journal_is_not_guessed_at(kernel: FakeKernel, text: str) -> None:
    journal_path().parent.mkdir(parents=True)
    journal_path().write_text(text)
    with pytest.raises(HostError, match="cannot be read"):
        kernel.apply(CHANGES)
    assert state(kernel) == ("10", "20", "128")
    assert journal_path().read_text() == text


def test_a_change_that_the_kernel_refuses_is_put_back(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Setting.write

    def refuse(self: Setting, root: Path, value: str) -> None:
        if value == "4096":
            raise OSError(22, "Invalid argument")
        write(self, root, value)

    monkeypatch.setattr(Setting, "write", refuse)
    results = kernel.apply(CHANGES)
    assert [result.ok for result in results] == [True, True, False]
    assert "Invalid argument" in results[2].error
    assert len(read_journal(kernel.root).entries) == 2


class Kernel:
    """Has only so many pages; `helped`: what it was asked to do about it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int, more_each_try: int) -> None:
        self.most, self.more = most, more_each_try
        self.real = Setting.write
        monkeypatch.setattr(Setting, "write", lambda s, root, value: self.write(s, root, value))

    def write(self, setting: Setting, root: Path, value: str) -> None:
        if setting.kind is not Kind.COUNT:
            self.real(setting, root, value)
            return
        tries = (root / "proc/sys/vm/compact_memory").read_text() == "1"
        self.real(setting, root, str(min(int(value), self.most + self.more * tries)))


def test_compacting_memory_finds_the_rest(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    helps = kernel.put("/proc/sys/vm/compact_memory", "")
    Kernel(monkeypatch, most=200, more_each_try=100)
    [result] = kernel.apply([more_pages(pool(0), 10, 300)])
    assert result.ok
    assert helps.read_text() == "1"
    assert kernel.says(pool(0)) == "300"


def test_too_few_pages_are_said_and_given_back(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of both nodes: L2 with one page less does not lie in hugepages at all."""
    kernel.put("/proc/sys/vm/compact_memory", "")
    kernel.put("/proc/sys/vm/drop_caches", "")
    Kernel(monkeypatch, most=150, more_each_try=7)
    results = kernel.apply(CHANGES)
    assert "got 147 of 290 hugepages" in results[0].error
    assert "hugepagesz=2M hugepages=300" in results[0].hint
    assert state(kernel) == ("10", "20", "4096")
    assert (kernel.root / "proc/sys/vm/drop_caches").read_text() == "1"


def test_ctrl_c_puts_back_what_was_made_so_far(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.apply([number(READAHEAD, 128, 4096)], Owner("other", 1, 1))

    def interrupted(stage: str, done: int, total: int) -> None:
        if stage == "hugepages node1":
            raise KeyboardInterrupt

    with open_journal(kernel.root) as journal, pytest.raises(KeyboardInterrupt):
        applying.Tuner(journal, Owner("us", 1, 2), "", kernel.root, interrupted).apply(CHANGES[:2])
    assert state(kernel) == ("10", "20", "4096")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_until_all_is_put_back(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The second Ctrl-C of somebody impatient."""
    kernel.apply(CHANGES)
    write = Setting.write

    def impatient(self: Setting, root: Path, value: str) -> None:
        os.kill(os.getpid(), number)
        write(self, root, value)

    monkeypatch.setattr(Setting, "write", impatient)
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            kernel.undo()
    finally:
        signal.signal(number, before)
    assert state(kernel) == ("10", "20", "128")
    assert not journal_path().exists()


def test_the_journal_is_private_and_whole(kernel: FakeKernel) -> None:
    kernel.apply(CHANGES)
    said = json.loads(journal_path().read_text())
    assert [entry["old"] for entry in said["entries"]] == ["10", "20", "128"]
    assert said["version"] == 1
    assert journal_path().parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_journal_of_root_is_not_a_services_to_put_back(kernel: FakeKernel) -> None:
    """A unit tunes as root and launches as somebody else, with one state folder."""
    kernel.apply(CHANGES)
    os.seteuid(65534)
    try:
        assert read_journal(kernel.root).entries == []
    finally:
        os.seteuid(0)
    assert len(read_journal(kernel.root).entries) == 3


WAITER = """
import sys
from pathlib import Path
from kvtier_ops.tune.journal import open_journal
with open_journal(Path(sys.argv[1]), lambda: print("waits", flush=True)):
    print("has it", flush=True)
"""


def test_two_state_folders_on_one_host_tune_one_after_the_other(
    kernel: FakeKernel, tmp_path: Path
) -> None:
    (kernel.root / "run").mkdir()
    words = [sys.executable, "-P", "-c", WAITER, str(kernel.root)]
    elsewhere = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "other")}
    with open_journal(kernel.root):
        other = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=elsewhere)
        assert other.stdout is not None
        assert other.stdout.readline() == "waits\n"
    assert other.communicate(timeout=20)[0] == "has it\n"
