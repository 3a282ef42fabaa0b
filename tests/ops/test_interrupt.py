"""A stop signal that comes at a bad moment: while modules are imported, or where what it raises is
taken for something else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ops.launched import WAIT_S, run_dir, start, write_profile

SWALLOW = """
import os, signal, sys
from kvtier_ops import cli
import kvtier_ops.doctor.examine as examine
from kvtier_ops.doctor.check import Check, Severity

def look(context):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        # as pybind11 does with a module whose import is interrupted
        {instead}

examine.CHECKS = (Check("KVT-D999", "group", "what", Severity.WARNING, look),)
cli.main(sys.argv[1:])
"""
AS_ERROR, AS_NOTHING = "raise ImportError('initialization failed')", "return []"

WHILE_IMPORTING = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            {how}

sys.meta_path.insert(0, Interrupt())
from kvtier_ops import cli
cli.main(["--version"])
"""
PLAIN = "os.kill(os.getpid(), signal.SIGINT)"
CONVERTED = f"""
            try:
                {PLAIN}
            except KeyboardInterrupt:
                raise ImportError("initialization failed")
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )


@pytest.mark.parametrize("how", [PLAIN, CONVERTED])
def test_while_the_command_is_imported(home: Path, how: str) -> None:
    done = python(WHILE_IMPORTING.format(how=how))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_check_that_takes_it_for_an_error(home: Path) -> None:
    done = python(SWALLOW.format(instead=AS_ERROR), "doctor", str(write_profile(home)))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_what_was_ignored_from_the_start_stays_so(home: Path) -> None:
    """`nohup kvtier launch PROFILE &`, and then one logs out."""
    profile = write_profile(home)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        launched = start(home, profile, {})
    finally:
        signal.signal(signal.SIGHUP, before)
    launched.wait_ready()
    launched.signal(signal.SIGHUP)
    launched.signal(signal.SIGTERM)
    assert launched.end() == 0
    assert "hurrying" not in launched.err.read_text()
    assert launched.log.count("fake: stop") == 1


@pytest.mark.parametrize("instead", [AS_ERROR, AS_NOTHING])
@pytest.mark.parametrize("more", [(), ("--detach",)])
def test_a_launch_that_lost_it_starts_nothing(
    home: Path, instead: str, more: tuple[str, ...]
) -> None:
    """`systemctl stop` while the checks run: the service must not come up after it."""
    profile = write_profile(home)
    done = python(SWALLOW.format(instead=instead), "launch", str(profile), *more)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1] == "interrupted"
    assert "BROKEN" not in done.stderr
    assert os.listdir(run_dir(home)) == ["lock"]
