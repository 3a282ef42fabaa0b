"""The command line: exit codes, streams, speed of the light path, the terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from ops.launched import DRIVER, write_profile

from kvtier_ops import cli
from kvtier_ops.errors import KvtierError

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "kvtier_ops", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plan", "none.yaml"], 2, "error: none.yaml: there is no such file"),
        (["plan"], 2, "missing argument"),
        (["plann"], 2, "no such command"),
        (["plan", "--nope", "x"], 2, "no such option"),
        (["model", "path", "nope"], 2, "no registered model `nope`"),
        (["model", "path", "smollm2-135m"], 2, "hint: `kvtier model pull smollm2-135m`"),
        (["doctor", "none.yaml"], 2, "no such file"),
        (["plan", "small.yaml", "--set", "tiers.l1.size=900TiB"], 3, "the largest that fits"),
        (["plan", "small.yaml", "--set", "server.port=x"], 2, "--set server.port: must be a whole"),
    ],
)
def test_mistakes(
    home: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    write_profile(home)
    monkeypatch.chdir(home)
    assert cli.run(arguments) == code
    out, err = capfd.readouterr()
    assert said.lower() in err.lower()
    assert err.startswith("error: ")
    assert "\x1b" not in err
    assert "Traceback" not in err
    assert out == ""


def test_a_bug_asks_for_a_report(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("kvtier_ops.cli.plan.load_profile", broken)
    assert cli.run(["plan", "x"]) == 1
    err = capfd.readouterr().err
    assert "kvtier itself failed: ZeroDivisionError: oops" in err
    assert "please report" in err
    assert "Traceback" not in err
    assert cli.run(["--debug", "plan", "x"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_terminal_without_columns(
    home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    assert cli.run(["plan", str(write_profile(home))]) == 0
    assert "host memory" in capfd.readouterr().out


def test_plan_as_table_and_json(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(write_profile(home))
    assert cli.run(["plan", path]) == 0
    assert "host memory" in capfd.readouterr().out
    assert cli.run(["plan", path, "--json"]) == 0
    data = json.loads(capfd.readouterr().out)
    assert data["tiers"]["l1"]["pages"] > 0
    assert data["memory"][0]["left_bytes"] > 0


def test_profile_commands(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_profile(home)
    assert cli.run(["profile", "validate", str(path)]) == 0
    assert cli.run(["profile", "show", "--resolved", str(path)]) == 0
    shown = capfd.readouterr().out
    path.write_text(shown)
    assert cli.run(["profile", "show", str(path)]) == 0
    assert capfd.readouterr().out == shown
    assert cli.run(["profile", "schema"]) == 0
    schema = json.loads(capfd.readouterr().out)
    assert schema["$defs"]["L2"]["properties"]["size"]["type"] == "string"


def test_doctor_as_json(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = cli.run(["doctor", str(write_profile(home)), "--json"])
    findings = json.loads(capfd.readouterr().out)["findings"]
    failed = [finding["severity"] for finding in findings if not finding["ok"]]
    assert code == (3 if "failure" in failed else 4 if failed else 0)


def test_light_path_stays_light(home: Path) -> None:
    code = (
        "import sys, kvtier_ops.cli as cli\n"
        f"assert cli.run(['plan', {str(write_profile(home))!r}]) == 0\n"
        "assert cli.run(['--help']) == 0\n"
        "sys.exit(', '.join(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Commands:" in done.stdout


def test_a_closed_pipe_is_no_bug(home: Path) -> None:
    kvtier = f"{sys.executable} -P -m kvtier_ops profile schema"
    done = subprocess.run(f"{kvtier} | head -1", shell=True, capture_output=True, text=True)
    assert done.stdout == "{\n"
    assert "report" not in done.stderr


def test_version(home: Path) -> None:
    assert run("--version").stdout.startswith("kvtier ")


@pytest.mark.parametrize("name", ["profile", "doctor"])
def test_reference_is_not_stale(name: str) -> None:
    script = ROOT / f"scripts/gen_{name}_reference.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def spawn(home: Path, plan: dict[str, object], **environment: str) -> pexpect.spawn[str]:
    return pexpect.spawn(
        sys.executable,
        [str(DRIVER), "launch", str(write_profile(home))],
        env={**os.environ, "FAKE_ENGINE": json.dumps(plan), **environment},
        dimensions=(24, 80),
        encoding="utf-8",
        timeout=60,
    )


def test_terminal_shows_bars_and_ctrl_c_drains(home: Path) -> None:
    child = spawn(home, {"steps": 6})
    child.expect("load model")
    child.expect("━")
    child.expect("serving model at http")
    child.sendintr()
    child.expect("draining")
    child.expect("stopped")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_terminal_that_hangs_up_drains(home: Path) -> None:
    """What is said then reaches nobody, and stops nothing."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, DRIVER, "launch", write_profile(home)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while b"serving model" not in shown:
        shown += os.read(ours, 4096)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    log = next((home / "state/kvtier/log").glob("*/engine.log")).read_text()
    assert "INFO fake: stop 1" in log
    assert "INFO launcher: stopped" in log
    assert [path.name for path in next((home / "run/kvtier").iterdir()).iterdir()] == ["lock"]


def test_ctrl_c_before_ready(home: Path) -> None:
    child = spawn(home, {"hang": True})
    child.expect("load model")
    child.sendintr()
    child.expect("stopped before it was ready")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


def test_dumb_terminal_gets_plain_lines(home: Path) -> None:
    child = spawn(home, {"steps": 3}, TERM="dumb")
    child.expect("serving model at http")
    assert "load model: 100%" in str(child.before)
    assert "\x1b[" not in str(child.before)
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_sigterm_outside_of_launch_is_an_interrupt(home: Path) -> None:
    code = (
        "import os, signal\nfrom kvtier_ops import cli\nimport kvtier_ops.cli.plan as plan\n"
        "plan.load_profile = lambda *a: os.kill(os.getpid(), signal.SIGTERM)\n"
        "cli.main(['plan', 'x'])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "interrupted\n"


def test_errors_render_place_what_and_hint() -> None:
    error = KvtierError("is wrong", "do this", field="a.b")
    error.locate(lambda field: f"p.yaml:1:{len(field)}")
    assert error.render() == "error: p.yaml:1:3: `a.b`: is wrong\nhint: do this"


def test_the_manual_names_every_check_and_warning() -> None:
    names = ("doctor.md", "planning.md", "multi-node.md")
    manual = "".join((ROOT / "docs" / name).read_text() for name in names)
    source = "".join(path.read_text() for path in (ROOT / "kvtier_ops").rglob("*.py"))
    ids = set(re.findall(r"KVT-[DP]\d{3}", source))
    assert ids
    assert ids == set(re.findall(r"KVT-[DP]\d{3}", manual))


@pytest.mark.parametrize("words", [[], ["host"], ["render"], ["cache"]])
def test_a_group_alone_is_its_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(words) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"Usage: {' '.join(['kvtier', *words])} ")
    assert "error:" not in err
