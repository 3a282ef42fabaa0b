"""launch, from outside: what it prints, what it leaves, how it ends."""

from __future__ import annotations

import json
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ops.launched import is_alive, start, write_profile

from kvtier_ops.launch.engine_process import EngineProcess


def test_serves_and_ctrl_c_drains_with_status_0(home: Path) -> None:
    launched = start(home, write_profile(home), {})
    launched.wait_ready()
    out = launched.out.read_text()
    assert re.search(r"serving model at http://127.0.0.1:\d+/v1", out)
    assert "curl http://127.0.0.1" in out
    assert "engine.log" in out
    config = json.loads((launched.run_dir / "config.json").read_text())
    assert stat.S_IMODE((launched.run_dir / "config.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(launched.run_dir.stat().st_mode) == 0o700
    assert config["cache"]["l1"]["pages"] > 0
    assert "memfd:kvtier-l2" in launched.seen()["arena"]
    launched.signal()
    assert launched.end() == 0
    err = launched.err.read_text()
    assert "draining" in err
    assert "stopped" in err
    assert [path.name for path in launched.run_dir.iterdir()] == ["lock"]


def test_progress_is_plain_lines_when_piped(home: Path) -> None:
    launched = start(home, write_profile(home), {"steps": 4})
    launched.wait_ready()
    launched.signal(signal.SIGTERM)
    assert launched.end() == 0
    err = launched.err.read_text()
    assert "load model: 100%" in err
    assert "\x1b" not in err


def test_memory_that_is_still_being_touched_is_not_said_to_be_ready(home: Path) -> None:
    """No engine waits for it, and the bar would say that there is no more to come."""
    launched = start(home, write_profile(home), {"touched": 2 << 20})
    launched.wait_ready()
    launched.signal(signal.SIGTERM)
    assert launched.end() == 0
    err = launched.err.read_text()
    assert "L2 memory: 25%" in err
    assert "L2 memory: 100%" not in err
    assert "2.00 MiB of L2's 8.00 MiB are touched by now, the rest while it serves" in err
    assert "load model: 100%" in err


def test_second_signal_hurries_and_third_kills(home: Path) -> None:
    launched = start(home, write_profile(home), {"deaf": True})
    launched.wait_ready()
    pid = launched.seen()["pid"]
    launched.signal()
    launched.wait_log("stop 1")
    launched.signal()
    launched.wait_text("hurrying")
    launched.wait_log("stop 2")
    assert is_alive(pid)
    launched.signal()
    assert launched.end() == 130
    assert not is_alive(pid)


def test_second_signal_ends_a_slow_drain_with_status_0(home: Path) -> None:
    launched = start(home, write_profile(home), {"stubborn": True})
    launched.wait_ready()
    launched.signal()
    launched.wait_log("stop 1")
    launched.signal()
    assert launched.end() == 0


def test_signal_before_ready_ends_with_130(home: Path) -> None:
    launched = start(home, write_profile(home), {"hang": True})
    launched.wait_text("load model")
    pid = launched.seen()["pid"]
    launched.signal()
    assert launched.end() == 130
    assert not is_alive(pid)
    assert "serving" not in launched.out.read_text()


def test_engine_that_says_why_it_ends_is_quoted_and_ends_with_3(home: Path) -> None:
    say = ["error: the port is taken", "hint: take another"]
    launched = start(home, write_profile(home), {"die": 3, "say": say})
    assert launched.end() == 3
    err = launched.err.read_text()
    assert "before it was ready (exit status 3): the port is taken" in err
    assert "hint: take another; its log is" in err


def test_hint_in_a_log_record_counts_as_an_explanation(home: Path) -> None:
    say = ["2026-01-01T00:00:00.000 ERROR core: no room; hint: make some"]
    launched = start(home, write_profile(home), {"die": 1, "say": say})
    assert launched.end() == 3
    assert "no room" in launched.err.read_text()


def test_engine_that_crashes_ends_with_1_and_its_last_lines(home: Path) -> None:
    launched = start(home, write_profile(home), {"die": 1, "say": ["Traceback", "Boom: 7"]})
    assert launched.end() == 1
    err = launched.err.read_text()
    assert "| Boom: 7" in err
    assert "exit status 1" in err


def test_engine_that_dies_while_serving(home: Path) -> None:
    launched = start(home, write_profile(home), {"die_ready": 9}, "--set", "server.restart_limit=0")
    assert launched.end() == 1
    assert "ended while serving (exit status 9)" in launched.err.read_text()


def test_engine_that_ends_badly_after_a_drain(home: Path) -> None:
    launched = start(home, write_profile(home), {"end": 5})
    launched.wait_ready()
    launched.signal()
    assert launched.end() == 1
    assert "while it was stopping (exit status 5)" in launched.err.read_text()


def test_start_without_progress_meets_the_deadline(home: Path) -> None:
    profile = write_profile(home, "server: {port: 0, start_timeout_s: 0.5}\n")
    launched = start(home, profile, {"hang": True})
    assert launched.end() == 3
    assert "no progress for 0.5 s" in launched.err.read_text()


def test_warnings_of_the_engine_reach_the_terminal_and_the_rest_the_log(home: Path) -> None:
    say = [
        "2026-01-01T00:00:00.000 WARNING kv: disk is slow",
        "2026-01-01T00:00:00.000 INFO kv: all is well",
    ]
    launched = start(home, write_profile(home), {"say": say})
    launched.wait_ready()
    launched.wait_log("all is well")
    launched.signal()
    assert launched.end() == 0
    assert "kv: disk is slow" in launched.err.read_text()
    assert "all is well" not in launched.err.read_text()
    assert "disk is slow" in launched.log


def test_second_launch_of_a_profile_names_the_first(home: Path) -> None:
    profile = write_profile(home)
    first = start(home, profile, {})
    first.wait_ready()
    second = start(home, profile, {})
    assert second.end() == 3
    assert f"with pid {first.process.pid}" in second.err.read_text()
    assert not first.ended()
    first.signal()
    assert first.end() == 0


def test_launch_after_kill_9_of_the_launcher(home: Path) -> None:
    profile = write_profile(home)
    first = start(home, profile, {})
    first.wait_ready()
    pid = first.seen()["pid"]
    first.signal(signal.SIGKILL)
    first.end()
    second = start(home, profile, {})
    try:
        second.wait_ready()
        assert second.seen()["pid"] != pid
        second.signal()
        assert second.end() == 0
    finally:
        subprocess.run(["kill", "-9", str(pid)], check=False)  # the fake does not follow us


def test_failing_check_stops_before_anything_starts(home: Path) -> None:
    profile = write_profile(home)
    (home / "model/tokenizer.json").unlink()
    launched = start(home, profile, {})
    assert launched.end() == 3
    assert "KVT-D401" in launched.err.read_text()
    assert not (home / "state").exists()


def test_dry_run_shows_everything_and_starts_nothing(home: Path) -> None:
    launched = start(home, write_profile(home), {}, "--dry-run")
    assert launched.end() == 0
    out = launched.out.read_text()
    assert "host memory" in out
    assert '"tensor_parallel": 1' in out
    assert "--config" in out
    assert list((home / "run").iterdir()) == []
    assert not (home / "state").exists()


def test_keys_are_in_no_output_and_no_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, secret = "key-of-search-in-the-environment", "key-of-the-admin-in-a-file"
    monkeypatch.setenv("SEARCH_KEY", key)
    (home / "admin.key").write_text(secret)
    server = (
        "server: {port: 0, drain_s: 5, api_keys: [{name: search, env: SEARCH_KEY}], "
        "admin_key: {file: admin.key}}\n"
    )
    profile = write_profile(home, server)
    dry = start(home, profile, {}, "--dry-run")
    assert dry.end() == 0
    launched = start(home, profile, {})
    launched.wait_ready()
    out = launched.out.read_text()
    assert '-H "Authorization: Bearer ${SEARCH_KEY}"' in out
    config = (launched.run_dir / "config.json").read_text()
    assert '"env": "SEARCH_KEY"' in config
    assert str(home / "state" / "kvtier" / "state") in config
    launched.signal()
    assert launched.end() == 0
    written = [dry.out.read_text(), dry.err.read_text(), out, launched.err.read_text(), config]
    written += [path.read_text() for path in (home / "state").rglob("*") if path.is_file()]
    for text in written:
        assert key not in text
        assert secret not in text


def test_a_key_that_is_not_there_stops_the_launch(home: Path) -> None:
    launched = start(home, write_profile(home), {}, "--set", "server.admin_key.env=NO_SUCH_KEY")
    assert launched.end() == 3
    err = launched.err.read_text()
    assert "KVT-D502" in err
    assert "the environment has no `NO_SUCH_KEY`" in err


def test_profile_errors_name_their_place(home: Path) -> None:
    launched = start(home, write_profile(home), {}, "--set", "tiers.l2.size=900TiB")
    assert launched.end() == 3
    assert "--set tiers.l2.size: KVT-P203: asks for 900 TiB" in launched.err.read_text()


def test_the_profiles_environment_reaches_the_engine(home: Path) -> None:
    script = json.dumps({"die": 3, "say": ["error: as the profile says", "hint: nothing"]})
    engine = f"engine: {{environment: {{FAKE_ENGINE: {json.dumps(script)}, X_TOKEN: hunter2}}}}\n"
    profile = write_profile(home, f"server: {{port: 0}}\n{engine}")
    launched = start(home, profile, {})
    assert launched.end() == 3
    assert "error: as the profile says" in launched.err.read_text()
    dry = start(home, profile, {}, "--dry-run")
    assert dry.end() == 0
    assert "environment\n\n  FAKE_ENGINE=" in dry.out.read_text()
    assert "X_TOKEN=********" in dry.out.read_text()
    assert "hunter2" not in dry.out.read_text()


def test_what_the_engine_cannot_do_is_not_launched(home: Path) -> None:
    for arguments in ((), ("--dry-run",)):
        launched = start(
            home, write_profile(home), {}, "--set", "tiers.kv_dtype=float8", *arguments
        )
        assert launched.end() == 3
        said = launched.err.read_text()
        assert "KVT-P104" in said
        assert "keeps KV as bfloat16, not as float8" in said


def test_a_dry_run_shows_all_and_says_what_stops_a_launch(home: Path) -> None:
    """More hugepages than any host of these tests has."""
    huge = ("--set", "tiers.l2.hugepages=1GiB", "--set", "tiers.l2.size=3GiB")
    launched = start(home, write_profile(home), {}, *huge, "--dry-run", "--no-tune")
    assert launched.end() == 3
    assert "--parent-pid $$" in launched.out.read_text()
    assert "KVT-P011" in launched.err.read_text()


@pytest.mark.parametrize("name", ["small", "x" * 90])
def test_run_folders_leave_room_for_socket_names(home: Path, name: str) -> None:
    from kvtier_ops.instance import RUN_DIR_BYTES_MAX, run_dir_of

    assert len(str(run_dir_of(home / f"{name}.yaml"))) <= RUN_DIR_BYTES_MAX


def test_the_real_command_takes_no_module_from_the_current_folder(home: Path) -> None:
    from kvtier_ops.launch.engine_process import engine_command

    command = engine_command(home / "config.json")
    assert command[1:4] == ["-P", "-m", "kvtier_engine"]
    assert command[0] == sys.executable


def test_a_run_folder_that_has_gone_ends_no_launch(home: Path) -> None:
    """That of a login goes when its user logs out."""
    launched = start(home, write_profile(home), {})
    launched.wait_ready()
    shutil.rmtree(home / "run")
    launched.signal(signal.SIGTERM)
    assert launched.end() == 0, launched.err.read_text()


def test_an_engine_that_cannot_be_watched_is_not_left_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pids = []

    def refuse(pid: int) -> int:
        pids.append(pid)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("os.pidfd_open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        EngineProcess([sys.executable, "-c", "import signal; signal.pause()"], None)
    assert [is_alive(pid) for pid in pids] == [False]
