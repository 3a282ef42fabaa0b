"""Checks of the folders that a launch makes: what stops it, the doctor has said before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ops.doctored import failing, load, look
from ops.launched import write_profile
from support.mounted import mounted
from support.rights import NOBODY, as_nobody, needs_root

from kvtier_ops import cli
from kvtier_ops.doctor import Context
from kvtier_ops.instance import log_path_of, run_dir_of, state_dir_of

Capture = pytest.CaptureFixture[str]


def context(home: Path) -> Context:
    file = load(home)
    return Context(file.profile, path=file.path)


def test_folders_that_can_be_made(home: Path) -> None:
    for check in ("KVT-D503", "KVT-D504"):
        found = look(check, context(home))
        assert (found.ok, found.current) == (True, "can be made")
    made = context(home)
    assert made.path is not None
    for folder in (log_path_of(made.path).parent, state_dir_of(made.path), run_dir_of(made.path)):
        folder.mkdir(parents=True)
    for check in ("KVT-D503", "KVT-D504"):
        assert look(check, made).current == "can be written"


def test_a_read_only_home(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    """Launch says no, and the doctor has said so."""
    profile = write_profile(home)
    with mounted("tmpfs", "ro", home / "ro") as place:
        monkeypatch.setenv("XDG_STATE_HOME", str(place))
        found = failing("KVT-D503", context(home))
        assert cli.run(["launch", str(profile)]) == 3
        assert "KVT-D503" in capfd.readouterr().err
        assert "XDG_STATE_HOME" in found.fix
        assert "mounted read-only" in found.current
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert "mounted read-only" in failing("KVT-D504", context(home)).current


@pytest.mark.parametrize("place", ["log", "state"])
@needs_root
def test_state_that_root_has_made(home: Path, place: str) -> None:
    """`sudo kvtier launch` once, with the user's own XDG_STATE_HOME."""
    home.chmod(0o755)
    made = context(home)
    assert made.path is not None
    for folder in (log_path_of(made.path).parent, state_dir_of(made.path)):
        folder.mkdir(parents=True)
    top = home / "state/kvtier"
    for folder in (top, *top.rglob("*")):
        os.chown(folder, NOBODY, -1)
    with as_nobody():
        assert look("KVT-D503", made).ok
    os.chown(top / place, 0, -1)
    os.chown(next((top / place).iterdir()), 0, -1)
    with as_nobody():
        found = failing("KVT-D503", made)
    refusing = next((top / place).iterdir())
    assert found.current == f"`{refusing}` cannot be written by uid {NOBODY}"
    assert f"sudo chown -R {NOBODY} {refusing}`" in found.fix


@needs_root
def test_a_log_that_root_has_written(home: Path) -> None:
    home.chmod(0o755)
    made = context(home)
    assert made.path is not None
    log = log_path_of(made.path)
    for folder in (log.parent, state_dir_of(made.path)):
        folder.mkdir(parents=True)
    for folder in (home / "state/kvtier").rglob("*"):
        os.chown(folder, NOBODY, -1)
    os.chown(home / "state/kvtier", NOBODY, -1)
    log.touch(0o600)
    with as_nobody():
        assert failing("KVT-D503", made).current == f"`{log}` cannot be written by uid {NOBODY}"


def test_a_run_folder_with_a_long_name(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    deep = home / ("x" * 60)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    found = failing("KVT-D504", context(home))
    assert found.current == f"a name of {len(str(run_dir_of(home / 'small.yaml')))} bytes"
    assert "export XDG_RUNTIME_DIR=" in found.fix
    assert cli.run(["launch", str(write_profile(home))]) == 3
    assert "too long a name" in capfd.readouterr().err


@needs_root
def test_a_run_folder_of_somebody_else(home: Path) -> None:
    made = context(home)
    assert made.path is not None
    run = run_dir_of(made.path)
    run.parent.mkdir()
    run.touch()
    assert failing("KVT-D504", made).current == "not a directory"
    run.unlink()
    run.mkdir()
    if os.geteuid() == 0:
        os.chown(run, NOBODY, -1)
        current = f"belongs to somebody else, uid {NOBODY}"
        assert failing("KVT-D504", made).current == current


def test_a_profile_that_is_no_file_has_no_folders(home: Path) -> None:
    from kvtier_ops.doctor import CHECKS, run_checks

    checks = [each for each in CHECKS if each.id in ("KVT-D503", "KVT-D504")]
    assert not list(run_checks(checks, Context(load(home).profile)))
