"""Orders to a launcher: one that does not hear them, and what a reload finds and says."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.detached import KEY, detach, log_of, nothing_left_running
from ops.launched import kvtier, write_profile

from kvtier_ops.instances import control


@pytest.fixture
def home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ADMIN_KEY", KEY)
    with nothing_left_running(home):
        yield home


def test_a_launcher_that_is_halted_is_not_waited_for_and_drops_the_order(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator was told that nothing is changed."""
    state = detach(write_profile(home))
    os.kill(state.pid, signal.SIGSTOP)
    for what in ("restart", "reload"):
        with monkeypatch.context() as patch:
            patch.setattr(control, "FIRST_LINE_S", 0.1)
            done = kvtier(what, "small")
        assert done.returncode == 3
        assert f"the launcher of `{state.name}` does not answer within 0.1 s" in done.stderr
        assert f"`kill -CONT {state.pid}`" in done.stderr
    os.kill(state.pid, signal.SIGCONT)
    assert kvtier("restart", "small").returncode == 0
    assert log_of(home).count("told to restart") == 1
    assert "told to reload" not in log_of(home)
    assert kvtier("stop", "small").returncode == 0


def test_a_reload_tells_the_warnings_that_its_changes_bring(home: Path) -> None:
    """A launch of the same profile tells them; those that were told before are not told again."""
    profile = write_profile(home)
    more = f"l2: {{size: 8MiB}}, l3: {{directories: [{home}/l3], size: 64MiB}}}}"
    profile.write_text(profile.read_text().replace("l2: {size: 8MiB}}", more))
    detach(profile)
    in_memory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        text = profile.read_text()
        profile.write_text(text.replace(f"{home}/l3", str(in_memory)))
        moved = kvtier("reload", "small")
        assert (moved.returncode, moved.stderr.count("warning: KVT-P006: plan, ")) == (0, 1)
        profile.write_text(profile.read_text().replace("port: 0", "port: 0, restart_limit: 9"))
        again = kvtier("reload", "small")
        assert (again.returncode, "warning" in again.stderr) == (0, False)
        assert kvtier("stop", "small").returncode == 0
    finally:
        shutil.rmtree(in_memory)
