"""State files, names, logs, limits of restarts: what instances are made of."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ops.builders import caught

from kvtier_ops.errors import BadInput
from kvtier_ops.instance import instance_name, run_dir_of
from kvtier_ops.instances import Instance, Phase, State, all_instances, read_state, write_state
from kvtier_ops.instances.find import NotRunning, name_of
from kvtier_ops.instances.logs import follow, last_lines
from kvtier_ops.instances.report import age, status, table
from kvtier_ops.instances.state import own_ticks
from kvtier_ops.launch import engine_log
from kvtier_ops.launch.control_socket import ControlSocket
from kvtier_ops.launch.engine_log import EngineLog, parse
from kvtier_ops.launch.orders import Orders
from kvtier_ops.launch.record import shown_override
from kvtier_ops.launch.restarts import Restarts
from kvtier_ops.launch.signals import StopSignals
from kvtier_ops.profile.schema.server import Server


def make_state(**changes: object) -> State:
    state = State("web-1234abcd", "/p/web.yaml", os.getpid(), own_ticks(), state=Phase.READY)
    return replace(state, **changes)  # type: ignore[arg-type]


def test_a_state_is_read_as_it_was_written(home: Path) -> None:
    state = make_state(overrides=("a=b",), directories=("/l3",), url="http://127.0.0.1:1", port=1)
    write_state(home, state)
    assert read_state(home) == state
    assert (home / "state.json").stat().st_mode & 0o777 == 0o600
    assert not list(home.glob("*.new"))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "state": "odd", "name": "x"}']
)
def test_a_state_that_is_none_is_no_instance(home: Path, text: str) -> None:
    (home / "state.json").write_text(text)
    assert read_state(home) is None


@pytest.mark.parametrize(
    "damage", [{"started": "soon"}, {"name": 5}, {"url": None}, {"pid": 0}, {"drain_s": []}]
)
def test_a_damaged_state_hides_no_other_instance(home: Path, damage: dict[str, object]) -> None:
    write_state(home, make_state())
    said = json.loads((home / "state.json").read_text())
    (home / "state.json").write_text(json.dumps({**said, **damage}))
    assert read_state(home) is None


def test_fields_of_a_later_kvtier_do_not_matter(home: Path) -> None:
    write_state(home, make_state())
    said = json.loads((home / "state.json").read_text())
    (home / "state.json").write_text(json.dumps({**said, "colour": "blue"}))
    assert read_state(home) == make_state()


def test_a_reused_pid_is_another_process(home: Path) -> None:
    """Our own number, but of a process that started at another time."""
    alive = Instance(home, make_state())
    dead = Instance(home, make_state(started_ticks=own_ticks() - 1))
    assert (alive.phase, dead.phase) == (Phase.READY, Phase.DEAD)
    assert "launcher was killed while it was ready" in status(dead)
    gone = replace(dead, state=replace(dead.state, engine_pid=4711))
    assert "engine    was pid 4711" in status(gone)
    assert "engine    pid 4711" in status(Instance(home, make_state(engine_pid=4711)))


def test_a_file_that_is_no_profile_of_ours_hides_no_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    Path("web").write_text("notes")
    assert name_of("web", ["web-1234abcd"]) == "web-1234abcd"


def test_names_their_beginnings_and_profiles(home: Path) -> None:
    names = ["web-1234abcd", "web-99", "batch-1"]
    assert name_of("batch-1", names) == "batch-1"
    assert name_of("b", names) == "batch-1"
    assert name_of("web-1", names) == "web-1234abcd"
    assert name_of("web-99", [*names, "web-990"]) == "web-99"
    ambiguous = caught(BadInput, lambda: name_of("web", names))
    assert "`web-1234abcd` or `web-99`" in str(ambiguous)
    profile = home / "web.yaml"
    profile.write_text("version: 1\n")
    assert name_of(str(profile), names) == instance_name(profile)
    gone = home / "gone.yaml"
    assert name_of(str(gone), [instance_name(gone)]) == instance_name(gone)
    assert "no profile" in str(caught(BadInput, lambda: name_of("nope.yaml", names)))
    assert "no instance" in str(caught(NotRunning, lambda: name_of("nope", names)))
    assert isinstance(caught(NotRunning, lambda: name_of("", names)), NotRunning)


def test_only_folders_with_a_state_are_instances(home: Path) -> None:
    for name in ("a", "b"):
        folder = run_dir_of(home / f"{name}.yaml")
        folder.mkdir(parents=True)
        if name == "b":
            write_state(folder, make_state(name="b-1"))
    assert [each.state.name for each in all_instances()] == ["b-1"]


def test_a_table_fits_80_columns(home: Path) -> None:
    longest = make_state(name="x" * 24 + "-12345678", url="http://127.0.0.1:8000", restarts=12345)
    lines = table([Instance(home, longest)]).split("\n")
    assert [len(line.split()) for line in lines] == [5, 5]
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (61, "1m1s"), (3600, "1h"), (90061, "1d1h"), (-5, "0s")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_last_lines_reach_into_rotated_files(home: Path) -> None:
    log = home / "engine.log"
    (home / "engine.log.2").write_text("1\n2\n")
    (home / "engine.log.1").write_text("3\n4\n")
    log.write_text("5\n6\nhalf")
    assert last_lines(log, 1)[0] == ["6"]
    assert last_lines(log, 3)[0] == ["4", "5", "6"]
    assert last_lines(log, 99)[0] == ["1", "2", "3", "4", "5", "6"]
    assert last_lines(log, 0)[0] == []
    assert last_lines(log, 2)[1].offset == 4


def test_followed_lines_come_once_each_through_a_rotation(home: Path) -> None:
    log = home / "engine.log"
    log.write_text("old\nha")
    _, end = last_lines(log, 10)
    over = [False]
    lines = follow(log, end, lambda: over[0])
    with log.open("a") as file:
        file.write("lf\n")
    assert next(lines) == "half"
    with log.open("a") as file:
        file.write("last of the first\n")
    log.rename(home / "engine.log.1")
    log.write_text("first of the second\n")
    assert next(lines) == "last of the first"
    assert next(lines) == "first of the second"
    over[0] = True
    assert list(lines) == []


def test_restarts_double_their_pause_up_to_a_limit() -> None:
    restarts = Restarts(Server(restart_limit=4, restart_window_s=100, restart_delay_s=20))
    assert [restarts.delay(now) for now in (0, 1, 2, 3)] == [20, 40, 60, 60]
    assert restarts.delay(99) is None
    assert restarts.delay(100.5) == 60  # the first is out of the window
    assert restarts.delay(300) == 20
    assert Restarts(Server(restart_limit=0)).delay(0) is None


def test_an_override_shows_no_secret() -> None:
    assert shown_override("server.port=8000") == "server.port=8000"
    assert shown_override("engine.environment.HF_TOKEN=hunter2") == (
        "engine.environment.HF_TOKEN=********"
    )


def test_both_layouts_of_the_log_are_read() -> None:
    text = parse("2026-01-01T00:00:00.000 WARNING core: slow")
    assert text == parse(
        '{"time": "x", "level": "warning", "component": "core", "message": "slow"}'
    )
    assert text == ("WARNING", "core", "slow")
    assert parse("Traceback") is None
    assert parse('{"level": "warning"}') is None


def test_a_log_of_json_has_nothing_else(home: Path) -> None:
    loud: list[str] = []
    log = EngineLog(home / "log/engine.log", loud.append, "json", "warning")
    log.event("info", "not wanted at this level")
    log.event("warning", 'of "ours"')
    read_fd, write_fd = os.pipe()
    record = '{"time": "t", "level": "error", "component": "core", "message": "bad; hint: mend it"}'
    os.write(write_fd, f"{record}\nFatal Python error\n".encode())
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as pipe:
        log.follow(pipe)
        log.close()
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [line["message"] for line in lines] == [
        'of "ours"',
        "bad; hint: mend it",
        "Fatal Python error",
    ]
    assert [line["component"] for line in lines] == ["launcher", "core", "engine"]
    assert loud == ["core: bad; hint: mend it"]
    explained = log.explanation()
    assert explained is not None
    assert (explained.what, explained.hint) == ("bad", "mend it")


@pytest.mark.parametrize("said", [b"", b"\xff\n", b"{}\n", b"7\n", b"[" * 4000 + b"\n"])
def test_what_is_no_order_is_not_obeyed(home: Path, said: bytes) -> None:
    """And ends nothing."""
    control = ControlSocket(home)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(home / "control.sock"))
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        assert control.accept() is None
    control.close()


def test_a_fault_while_the_engine_is_told_is_no_success() -> None:
    """In a thread, where nobody else sees it: a reload would say that it has changed things."""

    def fail() -> None:
        raise RuntimeError("odd")

    read_fd, write_fd = os.pipe()
    with StopSignals() as signals:
        engine = SimpleNamespace(fd=read_fd)
        keeper = SimpleNamespace(
            means=SimpleNamespace(signals=signals), now=SimpleNamespace(engine=engine)
        )
        with pytest.raises(RuntimeError, match="odd"):
            Orders(cast("Any", keeper), ())._while_serving(fail)
    os.close(read_fd)
    os.close(write_fd)


def test_launches_one_after_another_keep_the_first_ones_log(home: Path) -> None:
    """A service that fails and is started again does not push out why it failed at first."""
    path = home / "log/engine.log"
    for number in range(9):
        log = EngineLog(path, print, level="error")
        log.event("error", f"failure {number}")
        log.close()
    with path.open("a") as file:
        file.write("half a li")
    EngineLog(path, print).close()
    lines = path.read_text().splitlines()
    assert [line.partition(" ")[2] for line in lines[:2]] == [
        "ERROR launcher: failure 0",
        f"INFO launcher: a launch begins, pid {os.getpid()}",
    ]
    assert lines[-2] == "half a li"
    assert len(lines) == 9 + 8 + 2
    assert list(path.parent.iterdir()) == [path]


def test_a_log_that_is_full_is_rotated(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_log, "FILE_BYTES_MAX", 200)
    path = home / "engine.log"
    for number in range(20):
        log = EngineLog(path, print)
        log.event("info", f"line {number}")
        log.close()
    assert sorted(each.name for each in home.glob("engine.log*")) == [
        "engine.log",
        *(f"engine.log.{number}" for number in range(1, 6)),
    ]
    assert path.stat().st_size <= 200


def test_a_full_disk_loses_lines_of_the_log_and_says_so(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once when it begins, and in the log when there is room again."""
    path, said = home / "engine.log", list[str]()
    path.symlink_to("/dev/full")
    log = EngineLog(path, said.append)
    for number in range(3):
        log.event("info", f"lost {number}")
    assert said == [f"launcher: lines of `{path}` are lost: [Errno 28] No space left on device"]
    path.unlink()
    log.event("info", "kept")
    log.close()
    lines = [line.partition(" ")[2] for line in path.read_text().splitlines()]
    assert lines[0] == "INFO launcher: kept"
    assert lines[1].startswith("WARNING launcher: 3 lines of this log are lost")
    assert capsys.readouterr().err == ""


def test_a_disk_that_is_full_at_the_end_ends_nothing_else(home: Path) -> None:
    (home / "engine.log").symlink_to("/dev/full")
    log = EngineLog(home / "engine.log", lambda text: None)
    log.event("info", "lost")
    log.close()
