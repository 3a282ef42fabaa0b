"""`kvtier ps --clean`: what killed launchers changed on the host is put back, or named."""

from __future__ import annotations

import os
from pathlib import Path

from ops.launched import kvtier
from ops.tuned import FakeKernel, number

from kvtier_ops.instances.state import own_ticks
from kvtier_ops.tune.journal import journal_path, read_journal
from kvtier_ops.tune.owner import Owner


def left_behind(home: Path) -> Path:
    """A setting that a launcher changed which is no more."""
    file = home / "read_ahead_kb"
    file.write_text("128\n")
    gone = Owner("small-1234abcd", os.getpid(), own_ticks() + 1)
    [result] = FakeKernel(Path("/")).apply([number(str(file), 128, 4096)], gone)
    assert result.ok
    return file


def test_clean_puts_back_what_a_killed_launcher_changed(home: Path) -> None:
    """Also where its folder has gone, as with the session of its user."""
    file = left_behind(home)
    assert kvtier("ps", "--all").returncode == 0
    assert file.read_text() == "4096"
    done = kvtier("ps", "--clean")
    assert done.returncode == 0
    assert f"put back what a killed launcher changed: {file}: 4096 -> 128\n" in done.stderr
    assert (file.read_text(), read_journal().entries) == ("128", [])
    assert kvtier("ps", "--clean").stderr == ""


def test_what_cannot_be_put_back_is_named_with_who_can(home: Path) -> None:
    file = left_behind(home)
    file.unlink()
    file.mkdir()
    done = kvtier("ps", "--clean")
    assert done.returncode == 0
    assert f"killed launcher changed: {file}: NOT put back: cannot be read" in done.stderr
    assert "hint: `sudo " in done.stderr
    assert "tune --undo` tries again" in done.stderr
    assert len(read_journal().entries) == 1


def test_a_journal_that_cannot_be_read_is_told(home: Path) -> None:
    left_behind(home)
    journal_path().write_text("{")
    done = kvtier("ps", "--clean")
    assert done.returncode == 0
    assert "warning: what killed launchers changed on this host is not put back: " in done.stderr
    assert "hint: look at what it says was changed" in done.stderr
