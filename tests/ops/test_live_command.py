"""`kvtier doctor --live URL`: what it asks, and what it says where no engine answers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.launched import write_profile
from ops.live_engine import Engine, recorded, served

from kvtier_ops import cli
from kvtier_ops.cache.client import KEY_VARIABLE
from kvtier_ops.doctor.live import ask
from kvtier_ops.doctor.live.ask import observe

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def running() -> Iterator[Engine]:
    with served(Engine()) as engine:
        yield engine


def doctor(engine: Engine, *more: str) -> int:
    return cli.run(["doctor", "--live", engine.url, "--interval", "0", *more])


def test_a_sound_engine(running: Engine, capfd: Capture) -> None:
    assert doctor(running) == 0
    out, err = capfd.readouterr()
    assert "KVT-L101  readiness: ready" in out
    assert "checks: all passed" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert err == ""
    assert [path for path, _ in running.asked] == ["/ready", "/metrics"], "no key, no /admin"


def test_warnings_failures_and_json(running: Engine, capfd: Capture) -> None:
    running.metrics = [recorded({"requests_waiting": 99})]
    assert doctor(running) == 4
    running.metrics = [recorded({'tier_up{tier="l3"}': 0})]
    assert doctor(running) == 3
    capfd.readouterr()
    doctor(running, "--json")
    assert '"KVT-L401"' in capfd.readouterr().out


def test_two_looks_and_the_time_between(
    running: Engine, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(observe, "__defaults__", (waited.append,))
    assert cli.run(["doctor", "--live", running.url]) == 0
    assert waited == [5.0]
    assert [path for path, _ in running.asked].count("/metrics") == 2
    assert f"looking at {running.url} for 5 s" in capfd.readouterr().err


def test_an_engine_started_anew_meanwhile_is_looked_at_from_its_start(running: Engine) -> None:
    running.metrics = [recorded({"requests_total": 50}), recorded()]
    span = observe(running.url, 1.0, lambda seconds: None)
    assert span.before is None
    running.metrics = [recorded(name="before"), recorded()]
    span = observe(running.url, 1.0, lambda seconds: None)
    assert span.before is not None
    assert span.added("requests_total") == 21


def test_the_admin_key_shows_what_is_under_way(
    running: Engine, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "key-of-the-admin")
    running.pages["/admin/cache"] = (200, json.dumps({"under_way": "resize l2"}))
    assert doctor(running) == 0
    assert "under way: resize l2" in capfd.readouterr().out
    assert ("/admin/cache", "Bearer key-of-the-admin") in running.asked
    running.pages["/admin/cache"] = (401, "{}")
    assert doctor(running) == 0, "a wrong key is no reason to say nothing"
    assert all(key is None for path, key in running.asked if path != "/admin/cache")


def test_the_profile_is_compared_with_what_runs(
    running: Engine, home: Path, capfd: Capture
) -> None:
    profile = write_profile(home)
    assert doctor(running, str(profile)) == 4
    out = capfd.readouterr().out
    assert "KVT-L601  what runs `engine.max_running`" in out


@pytest.mark.parametrize(
    ("metrics", "what"),
    [
        ('vllm:num_requests_running{model="x"} 1.0\n', "a server of vLLM"),
        ("sglang:token_usage 0.1\n", "a server of SGLang"),
        ("lightllm_request_count 1\n", "a server of LightLLM"),
        ("go_goroutines 12\n", "not a server of kvtier"),
        ("", "not a server of kvtier"),
        ("<html><body>hello</body></html>\n", "not in Prometheus' text format"),
        ("kvtier_requests_total twelve\n", "not in Prometheus' text format"),
    ],
)
def test_what_is_no_engine_of_ours(
    running: Engine, capfd: Capture, metrics: str, what: str
) -> None:
    running.metrics = [metrics]
    assert doctor(running) == 3
    out, err = capfd.readouterr()
    assert (out, what in err, "hint: name the address" in err) == ("", True, True), err


def test_no_metrics(running: Engine, capfd: Capture) -> None:
    running.metrics = []
    assert doctor(running) == 3
    assert "/metrics answers 404" in capfd.readouterr().err


def test_nobody_there(capfd: Capture) -> None:
    with socket.socket() as taken:  # bound, and not listened on: nobody else gets it
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert cli.run(["doctor", "--live", url]) == 3
    assert f"nothing listens at {url}" in capfd.readouterr().err


def test_a_server_that_says_nothing(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "TIMEOUT_S", 0.05)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        assert cli.run(["doctor", "--live", url]) == 3
    assert "did not answer within 0.05 s" in capfd.readouterr().err


def test_an_answer_without_an_end(
    running: Engine, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "BODY_BYTES_MAX", 1000)
    assert doctor(running) == 3
    assert "answers without an end" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--live", "127.0.0.1:8000"], "not the address of a server"),
        (["--live", "ftp://127.0.0.1"], "not the address of a server"),
        (["--live", "http://127.0.0.1:99999"], "not the address of a server"),
        (["--live", "http://127.0.0.1:1", "--interval", "-1"], "not between 0 and 3600"),
        (["--live", "http://127.0.0.1:1", "--interval", "nan"], "not between 0 and 3600"),
        (["--interval", "5"], "goes with `--live URL`"),
    ],
)
def test_mistakes(capfd: Capture, arguments: list[str], what: str) -> None:
    assert cli.run(["doctor", *arguments]) == 2
    assert what in capfd.readouterr().err


def test_a_password_in_the_address_is_not_shown(capfd: Capture) -> None:
    assert cli.run(["doctor", "--live", "http://me:hunter22@127.0.0.1:1"]) == 2
    out, err = capfd.readouterr()
    assert "has no user and no password" in err
    assert "hunter22" not in out + err
