"""Detached launches, and the commands that look after them."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from ops.detached import KEY, SERVER, detach, log_of, nothing_left_running, seen, state_of
from ops.launched import DRIVER, WAIT_S, is_alive, kvtier, run_dir, start, write_profile
from support.engine_process import wait_for


@pytest.fixture
def home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ADMIN_KEY", KEY)
    with nothing_left_running(home):
        yield home


def test_a_detached_launch_from_its_start_to_its_stop(home: Path) -> None:
    profile = write_profile(home)
    done = kvtier("launch", str(profile), "-d")
    assert done.returncode == 0, done.stderr
    state = state_of(home)
    assert f"serving model at {state.url}/v1" in done.stdout
    assert f"stop: `kvtier stop {state.name}`" in done.stdout
    assert "load model: 100%" in done.stderr
    assert os.getsid(state.pid) == state.pid
    assert os.readlink(f"/proc/{state.pid}/cwd") == "/"

    listed = kvtier("ps").stdout.splitlines()
    assert listed[0].split() == ["NAME", "STATE", "UP", "RESTARTS", "ADDRESS"]
    assert listed[1].split()[:2] == [state.name, "ready"]
    assert listed[1].endswith(state.url.removeprefix("http://"))
    status = kvtier("status", "small", "--json")
    assert (status.returncode, json.loads(status.stdout)["pid"]) == (0, state.pid)

    before = seen(home)
    restarted = kvtier("restart", str(profile))
    assert (restarted.returncode, restarted.stderr) == (
        0,
        "draining: running requests have 5 s\n",
    )
    after = seen(home)
    assert after["pid"] != before["pid"]
    assert after["arena_id"] == before["arena_id"]
    assert state_of(home).url == state.url
    assert state_of(home).restarts == 0  # it was told to

    stopped = kvtier("stop", "small")
    assert (stopped.returncode, stopped.stderr.splitlines()[-1]) == (0, f"stopped {state.name}")
    assert not is_alive(state.pid)
    assert not is_alive(after["pid"])
    assert [path.name for path in run_dir(home).iterdir()] == ["lock"]
    assert kvtier("stop", "small").returncode == 3
    assert kvtier("ps", "--json").stdout == "[]\n"
    logged = kvtier("logs", state.name, "-n", "2").stdout.splitlines()
    assert [line.partition("launcher: ")[2] for line in logged][1] == "stopped"
    followed = kvtier("logs", "small", "--follow", "-n", "1")  # there is nothing to wait for
    assert (followed.returncode, followed.stdout.splitlines()) == (0, logged[-1:])


def test_a_detached_launch_that_fails_says_what_a_launch_says(home: Path) -> None:
    profile = write_profile(home)
    say = ["error: the port is taken", "hint: take another"]
    done = kvtier("launch", str(profile), "--detach", plan={"die": 3, "say": say})
    assert done.returncode == 3
    assert "before it was ready (exit status 3): the port is taken" in done.stderr
    assert "hint: take another; its log is" in done.stderr
    wrong = kvtier("launch", str(profile), "--detach", "--set", "server.port=x")
    assert wrong.returncode == 2
    assert "server.port" in wrong.stderr
    assert kvtier("launch", str(profile), "--detach", "--dry-run").returncode == 2
    assert [path.name for path in run_dir(home).iterdir()] == ["lock"]


def test_a_detached_launch_without_a_place_for_its_log_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nothing")
    done = kvtier("launch", str(write_profile(home)), "--detach")
    assert done.returncode == 3
    assert "error: cannot write `/proc/nothing/kvtier/log/small-" in done.stderr
    assert "hint: set XDG_STATE_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_before_ready_stops_what_was_to_be_detached(home: Path) -> None:
    child = pexpect.spawn(
        sys.executable,
        [str(DRIVER), "launch", str(write_profile(home)), "--detach"],
        env={**os.environ, "FAKE_ENGINE": '{"hang": true}'},
        dimensions=(24, 80),
        encoding="utf-8",
        timeout=60,
    )
    child.expect("load model")
    child.expect("━")
    state = state_of(home)
    child.sendintr()
    child.expect("stopped before it was ready")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert not is_alive(state.pid)
    assert [path.name for path in run_dir(home).iterdir()] == ["lock"]


def test_it_survives_its_terminal_and_no_line_of_it_is_wider(home: Path) -> None:
    child = pexpect.spawn(
        sys.executable,
        [str(DRIVER), "launch", str(write_profile(home)), "--detach"],
        dimensions=(24, 80),
        encoding="utf-8",
        timeout=60,
    )
    child.expect("serving model at")
    child.expect(pexpect.EOF)
    bars = [line for line in str(child.before).splitlines() if "━" in line]
    assert all(len(line) <= 80 for line in bars)
    child.close(force=True)  # hangs up
    assert state_of(home).state == "ready"
    assert kvtier("stop", "--all").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to write below /run/user")
def test_it_is_said_that_logging_out_would_hide_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd removes that folder then, unless the user lingers."""
    profile, failing = write_profile(home), {"die": 3, "say": ["error: no", "hint: yes"]}
    said = "when you log out, systemd removes `/run/user/0`"
    base = Path("/run/user/0")
    made = [each for each in (base, base.parent) if not each.exists()]
    base.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=base) as folder:
            monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
            assert said in kvtier("launch", str(profile), "--detach", plan=failing).stderr
            assert said not in kvtier("launch", str(profile), plan=failing).stderr
    finally:
        for each in made:
            each.rmdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    assert said not in kvtier("launch", str(profile), "--detach", plan=failing).stderr


def test_stop_hurries_when_its_time_is_up(home: Path) -> None:
    state = detach(write_profile(home), plan={"stubborn": True})
    done = kvtier("stop", state.name, "--timeout", "0.1")
    assert done.returncode == 0
    assert "running requests have 0.1 s" in done.stderr
    assert "running requests are ended now" in done.stderr
    assert "killing" not in done.stderr


def test_a_second_stop_does_not_hurry_the_first(home: Path) -> None:
    """Requests have the time that was said; a second signal would end them."""
    profile = write_profile(home, "server: {port: 0, drain_s: 600}\n")
    state = detach(profile, plan={"stubborn": True})
    os.kill(state.pid, signal.SIGTERM)
    wait_for(lambda: "stop 1" in log_of(home), "the engine to drain")
    done = kvtier("stop", state.name, "--timeout", "0.3")
    assert done.returncode == 0
    said = done.stderr.splitlines()
    assert said[0].endswith("is being stopped already: running requests have 0.3 s more")
    assert said[1:] == ["running requests are ended now", f"stopped {state.name}"]


def test_each_signal_of_a_stop_is_noticed(home: Path) -> None:
    """A launcher that is not running just then gets two at once as one."""
    state = detach(write_profile(home), plan={"stubborn": True})
    os.kill(state.pid, signal.SIGSTOP)
    threading.Timer(0.5, os.kill, (state.pid, signal.SIGCONT)).start()
    done = kvtier("stop", state.name, "--timeout", "0")
    assert done.returncode == 0
    assert "killing" not in done.stderr
    assert "stop 2" in kvtier("logs", state.name).stdout


def test_an_engine_that_is_not_running_just_then_gets_two_signals(home: Path) -> None:
    state = detach(write_profile(home), plan={"stubborn": True})
    engine = state.engine_pid
    assert engine is not None
    os.kill(engine, signal.SIGSTOP)

    def go_on() -> None:
        wait_for(lambda: "hurrying" in Path(state.log).read_text(), "the second signal", WAIT_S)
        os.kill(engine, signal.SIGCONT)

    thread = threading.Thread(target=go_on)
    thread.start()
    done = kvtier("stop", state.name, "--timeout", "0")
    thread.join()
    assert done.returncode == 0
    assert "killing" not in done.stderr
    assert "stop 2" in Path(state.log).read_text()


def test_no_stop_has_more_time_than_the_engine_gives(home: Path) -> None:
    state = detach(write_profile(home))
    assert "have 5 s\n" in kvtier("stop", state.name, "--timeout", "3600").stderr


def test_reload_changes_what_can_be_changed_and_says_how(home: Path) -> None:
    profile = write_profile(home, SERVER)
    first = detach(profile)
    text = profile.read_text()

    def reload(*changes: tuple[str, str]) -> str:
        new = text
        for old, changed in changes:
            assert old in new
            new = new.replace(old, changed)
        profile.write_text(new)
        done = kvtier("reload", "small")
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "nothing has changed" in reload()
    limits = ("port: 0,", "port: 0, restart_limit: 9,")
    assert "changed without the engine: `server.restart_limit`" in reload(limits)
    smaller = reload(("size: 8MiB", "size: 6MiB"), limits)
    assert "changed while it serves: `tiers.l2.size`" in smaller
    assert "fake: /admin/cache/resize {'tier': 'l2', 'size_bytes': " in log_of(home)
    assert state_of(home).engine_pid == first.engine_pid
    level = ("port: 0,", "port: 0, log_level: debug,")
    assert "changed, with another engine: `server.log_level`" in reload(
        ("size: 8MiB", "size: 6MiB"), limits, level
    )
    assert state_of(home).engine_pid != first.engine_pid
    assert (state_of(home).pid, state_of(home).url) == (first.pid, first.url)
    assert kvtier("stop", "small").returncode == 0


def test_reload_of_a_mistake_changes_nothing(home: Path) -> None:
    profile = write_profile(home, SERVER)
    first = detach(profile)
    good = profile.read_text()
    profile.write_text(good.replace("port: 0", "prot: 0"))
    wrong = kvtier("reload", "small")
    assert wrong.returncode == 2
    assert f"error: {profile}:4:10: `server.prot`" in wrong.stderr
    profile.write_text(good.replace("size: 4MiB", "size: 4TiB"))
    assert kvtier("reload", "small").returncode == 3
    (home / "model/tokenizer.json").unlink()
    profile.write_text(good)
    failing = kvtier("reload", "small")
    assert (failing.returncode, "KVT-D401" in failing.stderr) == (3, True)
    assert state_of(home).engine_pid == first.engine_pid
    assert state_of(home).state == "ready"
    assert kvtier("stop", "small").returncode == 0


def test_reload_goes_back_when_the_engine_does_not_start(home: Path) -> None:
    profile = write_profile(home, SERVER)
    say = ["error: this is too much", "hint: take less"]
    first = detach(profile, plan={"full": True, "lives": [{}, {"die": 2, "say": say}, {}]})
    profile.write_text(profile.read_text().replace("size: 8MiB", "size: 6MiB"))
    done = kvtier("reload", "small")
    assert done.returncode == 3
    assert "the engine does not resize l2 as it runs: there is no room" in done.stderr
    assert "this is too much; the profile as it was is served again" in done.stderr
    assert state_of(home).state == "ready"
    assert state_of(home).url == first.url
    config = json.loads((run_dir(home) / "config.json").read_text())
    profile.write_text(profile.read_text().replace("size: 6MiB", "size: 8MiB"))
    assert "nothing has changed" in kvtier("reload", "small").stdout
    assert json.loads((run_dir(home) / "config.json").read_text()) == config
    assert kvtier("stop", "small").returncode == 0


def test_orders_to_a_busy_launcher_are_refused(home: Path) -> None:
    launched = start(home, write_profile(home), {"hang": True})
    launched.wait_text("load model")
    done = kvtier("restart", "small")
    assert done.returncode == 3
    assert "error: the engine is starting" in done.stderr
    assert kvtier("status", "small").returncode == 4
    launched.signal()
    assert launched.end() == 130


def test_a_dead_instance_is_shown_and_cleaned(home: Path) -> None:
    """Its engine has outlived it, as one does that hangs in a driver."""
    profile = write_profile(home)
    state = detach(profile, plan={"orphan": True})
    assert state.engine_pid is not None
    os.kill(state.pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(state.pid), "the launcher to be gone")
    assert is_alive(state.engine_pid)
    hidden = kvtier("ps")
    assert state.name not in hidden.stdout
    assert "1 dead: `--all` shows them" in hidden.stderr
    assert kvtier("ps", "--all").stdout.splitlines()[1].split()[:3] == [state.name, "dead", "-"]
    status = kvtier("status", "small")
    assert status.returncode == 3
    said = [line.split(maxsplit=1) for line in status.stdout.splitlines()]
    assert ["served", f"model at {state.url}/v1"] in said
    assert ["launcher", f"was pid {state.pid}, detached"] in said
    assert ["engine", f"has outlived it: pid {state.engine_pid}"] in said
    for command in ("stop", "restart", "reload"):
        refused = kvtier(command, "small")
        assert (refused.returncode, "is dead" in refused.stderr) == (3, True)
    cleaned = kvtier("ps", "--clean").stderr
    assert f"cleaned up after a launcher that was killed (pid {state.pid})" in cleaned
    assert f"ended the engine's processes {state.engine_pid}" in cleaned
    assert not is_alive(state.engine_pid)
    assert [path.name for path in run_dir(home).iterdir()] == ["lock"]


def test_two_profiles_that_want_the_same_are_told_of_one_another(home: Path) -> None:
    l3 = f"tiers.l3.directories=[{home}/l3]"
    more = ("--set", l3, "--set", "tiers.l3.size=64MiB")
    first = detach(write_profile(home), *more)
    second = home / "other.yaml"
    second.write_text((home / "small.yaml").read_text())
    for dry in ((), ("--dry-run",)):
        done = kvtier("launch", str(second), "--set", f"server.port={first.port}", *more, *dry)
        assert done.returncode == 3
        who = f"the instance `{first.name}` (profile `~/small.yaml`)"
        assert f"server.port: port {first.port} is taken by {who}" in done.stderr
        assert f"`{home}/l3` is used by {who}" in done.stderr
        assert f"`kvtier stop {first.name}`" in done.stderr
    assert kvtier("stop", "small").returncode == 0


def test_a_failing_check_can_be_forced(home: Path) -> None:
    profile = write_profile(home)
    (home / "model/tokenizer.json").unlink()
    state = detach(profile, "--force", "KVT-D401")
    assert kvtier("restart", state.name).returncode == 0
    assert kvtier("stop", state.name).returncode == 0
    dry = kvtier("launch", str(profile), "--force", "KVT-D401", "--dry-run")
    assert dry.returncode == 0
    assert "warning: forced: KVT-D401: files of the model" in dry.stderr


@pytest.mark.parametrize(
    ("id", "code", "why"),
    [
        ("KVT-D999", 2, "`KVT-D999` is no check"),
        ("KVT-P104", 3, "KVT-P104 cannot be forced: the engine has no way to do it"),
        ("KVT-P013", 3, "KVT-P013 cannot be forced: without a plan that fits"),
        ("KVT-P201", 3, "KVT-P201 cannot be forced: without a plan that fits"),
    ],
)
def test_what_cannot_be_forced(home: Path, id: str, code: int, why: str) -> None:
    done = kvtier("launch", str(home / "any.yaml"), "--dry-run", "--force", id)
    assert (done.returncode, why in done.stderr) == (code, True)
