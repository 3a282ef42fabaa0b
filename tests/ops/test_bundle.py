"""`kvtier doctor bundle`: all that a report needs, and none of the secrets planted everywhere."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ops.launched import write_profile
from ops.live_engine import Engine, recorded, served
from support.engine_process import wait_for

from kvtier_ops import cli
from kvtier_ops.bundle import sources
from kvtier_ops.bundle.make import Bundle, make_bundle, write_bundle
from kvtier_ops.bundle.redact import MASK, Redactor
from kvtier_ops.bundle.sources import Piece, Subject
from kvtier_ops.errors import BadInput
from kvtier_ops.instance import log_path_of, run_dir_of, state_dir_of

Capture = pytest.CaptureFixture[str]

# Each in a place of its own; none may be found.
SEARCH = "zebra-of-search-41"
ADMIN = 'quokka"of\\the admin'.replace(" ", "-")
FILED = "walrus-in-a-file-7"
VARIABLE = "narwhal-in-the-environment"
OF_PROFILE = "okapi-in-the-profile"
HUGGING = "hf_AbCdEfGhIjKlMnOpQrStUvWx"
OPENAI = "sk-proj-AbCdEfGh12345678"
BEARER = "tapir.unknown-to-anybody"
URL_PASSWORD = "lemur-of-the-proxy"
ARGV = "axolotl-on-the-command-line"
IN_KEY = "MIIEvQIBADANBgkqhkiGpangolin"
PROMPT = "the prompt that nobody else may read"
PLANTED = (SEARCH, ADMIN, FILED, VARIABLE, OF_PROFILE, HUGGING, OPENAI, BEARER, URL_PASSWORD, ARGV,
           IN_KEY, PROMPT)  # fmt: skip


def contents(path: Path) -> dict[str, bytes]:
    """File -> bytes, without the folder that all of them are in."""
    with tarfile.open(path) as archive:
        found = {}
        for member in archive.getmembers():
            assert member.isfile()
            assert (member.uid, member.uname, member.mode) == (0, "", 0o600)
            file = archive.extractfile(member)
            assert file is not None
            name = member.name.partition("/")[2]
            assert name not in found, "whoever unpacks it would lose one of two"
            found[name] = file.read()
    return found


def forms(secret: str) -> set[bytes]:
    plain = secret.encode()
    return {plain, json.dumps(secret)[1:-1].encode(), base64.b64encode(plain).rstrip(b"=")}


@pytest.fixture
def planted(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile, and the traces of a run that was careless with secrets."""
    (home / "key").write_text(f"{FILED}\n")
    (home / "key").chmod(0o600)
    trace = home / "state/kvtier/log/requests.jsonl"
    path = write_profile(
        home,
        "server:\n  port: 0\n"
        "  api_keys:\n    - {name: search, env: SEARCH_KEY}\n"
        f"    - {{name: filed, file: {home}/key}}\n"
        "  admin_key: {env: KVTIER_ADMIN_KEY}\n"
        f"  request_trace: {home}/trace/engine.log\n"
        f"engine:\n  environment:\n    MY_PASSWORD: {OF_PROFILE}\n    HF_TOKEN: {HUGGING}\n"
        "    NCCL_DEBUG: WARN\n",
    )
    monkeypatch.setenv("SEARCH_KEY", SEARCH)
    monkeypatch.setenv("KVTIER_ADMIN_KEY", ADMIN)
    monkeypatch.setenv("SOME_SECRET", VARIABLE)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{URL_PASSWORD}@proxy:3128")
    log = log_path_of(path)
    log.parent.mkdir(parents=True)
    log.write_text(
        f"2026-01-01T00:00:00.000 INFO server: Authorization: Bearer {BEARER}\n"
        f"2026-01-01T00:00:00.000 INFO core: {json.dumps({'admin': ADMIN})} {SEARCH}\n"
        f"export SOME_SECRET={VARIABLE}; curl -u me:{URL_PASSWORD}\n"
        f"GET https://me:{URL_PASSWORD}@mirror/simple {OPENAI}\n"
        f"the engine was given {OF_PROFILE} in its environment\n"
        f"Basic {base64.b64encode(f'me:{FILED}'.encode()).decode()}\n"
        f"kvtier-thing --api-key {ARGV} --port 8000\n"
        f"-----BEGIN RSA PRIVATE KEY-----\n{IN_KEY}\n-----END RSA PRIVATE KEY-----\n"
        "2026-01-01T00:00:00.000 ERROR core: the disk is gone\n"
    )
    log.with_name("engine.log.1").write_text(f"earlier {FILED}\n")
    for name in ("requests.jsonl", "trace.log", "prompts.txt"):
        log.with_name(name).write_text(PROMPT)
    (home / "trace").mkdir()
    (home / "trace/engine.log").write_text(PROMPT)
    log.with_name("engine.log.2").symlink_to(home / "trace/engine.log")
    log.with_name("engine.log.3").write_text(
        json.dumps({"timestamp": 1, "input_length": 5, "hash_ids": [1, 2], "text": PROMPT}) + "\n"
    )
    trace.write_text(PROMPT)
    run_dir = run_dir_of(path)
    run_dir.mkdir(parents=True)
    (run_dir / "config.json").write_text(json.dumps({"server": {"admin_key": {"env": "X"}}}))
    (run_dir / "state.json").write_text(json.dumps({"name": "small", "state": "ready"}))
    (run_dir / "address").write_text('{"host": "127.0.0.1", "port": 1}')
    state = state_dir_of(path)
    state.mkdir(parents=True)
    (state / "rates.json").write_text(json.dumps({"prefill": {"tokens_per_s": 5}, "x": SEARCH}))
    (state / "tenants.json").write_text(json.dumps({"of a tenant": PROMPT}))
    tune = home / "state/kvtier/tune"
    tune.mkdir(parents=True)
    (tune / "journal.json").write_text(json.dumps({"entries": [], "token": VARIABLE}))
    return path


def bundle(planted: Path, *more: str) -> dict[str, bytes]:
    out = planted.parent / "out.tar.gz"
    assert cli.run(["doctor", "bundle", str(planted), "-o", str(out), "--force", *more]) == 0
    return contents(out)


def test_no_planted_secret_is_in_it(planted: Path, capfd: Capture) -> None:
    leaky = Engine()
    leaky.pages["/ready"] = (503, json.dumps({"status": "failed", "error": f"key {SEARCH}"}))
    leaky.pages["/admin/cache"] = (200, json.dumps({"under_way": ADMIN, "hint": VARIABLE}))
    leaky.metrics = [
        recorded({f'l3_directory_up{{directory="/mnt/{SEARCH}"}}': 1})
        + f'kvtier_x{{reason="Bearer {BEARER}"}} 1\n'
    ]
    launcher = subprocess.Popen(
        [sys.executable, "-c", "input()", "kvtier", f"--token={ARGV}", ADMIN],
        stdin=subprocess.PIPE,
    )
    try:
        (run_dir_of(planted) / "lock").write_text(f"{launcher.pid}\n")
        wait_for(lambda: ARGV in Path(f"/proc/{launcher.pid}/cmdline").read_text(), "its argv")
        with served(leaky) as engine:
            found = bundle(planted, "--live", engine.url)
    finally:
        launcher.kill()
        launcher.communicate()
    for name, data in found.items():
        for secret in PLANTED:
            for form in forms(secret):
                assert form not in data, f"{secret} is in {name}"
    assert set(found) >= {
        "manifest.json", "versions.json", "environment.txt", "host.json", "limits.txt",
        "profile.yaml", "profile-whole.yaml", "profile-resolved.yaml", "plan.json", "doctor.json",
        "instance/processes.json", "instance/state.json", "instance/config.json",
        "instance/address", "instance/rates.json", "tune/journal.json",
        "live/ready.json", "live/metrics.txt", "live/cache.json", "live/doctor.json",
    }  # fmt: skip
    logs = sorted(name for name in found if name.startswith("logs/"))
    assert [Path(name).name for name in logs] == ["engine.log", "engine.log.1"]
    out, err = capfd.readouterr()
    for secret in PLANTED:
        assert secret not in out + err


def test_what_is_no_secret_is_there(planted: Path) -> None:
    found = bundle(planted)
    text = found["profile.yaml"].decode()
    for kept in ("env: SEARCH_KEY", "admin_key: {env: KVTIER_ADMIN_KEY}", "NCCL_DEBUG: WARN"):
        assert kept in text
    assert f"MY_PASSWORD: {MASK}" in text
    log = next(data for name, data in found.items() if name.endswith("engine.log")).decode()
    assert "ERROR core: the disk is gone" in log
    assert f"--api-key {MASK} --port 8000" in log
    plan = json.loads(found["plan.json"])
    assert plan["rates"]["prefill_slowdown_per_token"] != MASK
    assert json.loads(found["host.json"])["kvtier_host"] == 1
    assert "torch" in json.loads(found["versions.json"])["packages"]
    assert json.loads(found["instance/config.json"]) == {"server": {"admin_key": {"env": "X"}}}


def test_the_manifest_lists_every_file(planted: Path, capfd: Capture) -> None:
    found = bundle(planted)
    manifest = json.loads(found.pop("manifest.json"))
    assert {each["name"]: each["bytes"] for each in manifest["files"]} == {
        name: len(data) for name, data in found.items()
    }
    removed = {each["name"]: each["secrets_removed"] for each in manifest["files"]}
    assert removed["profile.yaml"] == 2
    assert removed["versions.json"] == 0
    assert any("names of users" in each for each in manifest["kept"])
    assert any("request traces" in each for each in manifest["never_in"])
    out, err = capfd.readouterr()
    assert all(name in out for name in found)
    assert f"wrote {planted.parent}/out.tar.gz" in err


def test_what_cannot_be_had_is_noted(
    planted: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    def breaks(subject: Subject) -> Any:
        yield Piece("half.txt", "it began", "")
        raise RuntimeError(f"with {VARIABLE}")

    monkeypatch.setattr(sources, "COMMAND_S_MAX", 0)
    monkeypatch.setattr("kvtier_ops.bundle.make.SOURCES", (*sources.SOURCES, ("odd", breaks)))
    log_path_of(planted).chmod(0)
    (run_dir_of(planted) / "config.json").unlink()
    (run_dir_of(planted) / "config.json").mkdir()
    found = bundle(planted, "--live", "http://127.0.0.1:1")
    missing = json.loads(found["manifest.json"])["missing"]
    assert missing["odd"] == f"RuntimeError: with {MASK}"
    assert "nothing listens at http://127.0.0.1:1" in missing["live engine"]
    assert "TimeoutExpired" in missing["kernel log"]
    assert found["half.txt"] == b"it began"
    assert "doctor.json" in found
    assert "missing: odd" in capfd.readouterr().out


def test_a_profile_that_is_wrong_is_reported_all_the_same(planted: Path) -> None:
    planted.write_text(
        planted.read_text()
        + f"nonsense: 1\nserver_token: {OF_PROFILE} and more\napi_keys:\n  - {OF_PROFILE}\n"
        f"passwords: [{OF_PROFILE}, 12345678]\nsecret: |\n  {OF_PROFILE}\n  87654321\nlast: x\n"
    )
    found = bundle(planted)
    assert "nonsense" in json.loads(found["manifest.json"])["missing"]["profile, read"]
    text = found["profile.yaml"].decode()
    for secret in (OF_PROFILE, "12345678", "87654321", "and more", HUGGING):
        assert secret not in text
    assert "nonsense: 1" in text
    assert text.endswith("last: x\n")
    assert {Path(name).name for name in found if name.startswith("logs/")} == {
        "engine.log", "engine.log.1"
    }  # fmt: skip
    assert not any(PROMPT.encode() in data for data in found.values())


CLUSTER_LINES = "cluster:\n  secret: {env: KVTIER_MEETING}\n"


@pytest.mark.parametrize("more", [CLUSTER_LINES, CLUSTER_LINES + "nonsense: 1\n", "}{\n"])
def test_where_a_secret_lies_is_enough_also_in_a_profile_that_is_wrong(
    planted: Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    """Neither variable has a name that looks like that of a secret."""
    text = planted.read_text().replace("SEARCH_KEY", "KVTIER_SEARCHING")
    planted.write_text(text + more)
    monkeypatch.setenv("KVTIER_MEETING", "ibex of the meeting" if "cluster" in more else "")
    monkeypatch.setenv("KVTIER_SEARCHING", SEARCH)
    monkeypatch.delenv("SEARCH_KEY")
    found = bundle(planted)
    assert b"KVTIER_SEARCHING=" + MASK.encode() in found["environment.txt"]
    for name, data in found.items():
        for secret in (SEARCH, FILED, "ibex of the meeting"):
            assert secret.encode() not in data, f"{secret} is in {name}"


def test_without_a_profile_the_latest_logs_are_taken(planted: Path, home: Path) -> None:
    for number in range(5):
        folder = home / f"state/kvtier/log/other-{number}"
        folder.mkdir()
        (folder / "engine.log").write_text(f"{VARIABLE} {number}\n")
        os.utime(folder, (1000 + number, 1000 + number))
    out = home / "out.tar.gz"
    assert cli.run(["doctor", "bundle", "-o", str(out)]) == 0
    found = contents(out)
    folders = {name.split("/")[1] for name in found if name.startswith("logs/")}
    assert folders == {log_path_of(planted).parent.name, "other-4", "other-3"}
    assert "profile.yaml" not in found
    assert "doctor.json" in found
    assert not any(VARIABLE.encode() in data for data in found.values())


def test_a_long_log_is_cut_at_a_line(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LOG_BYTES_MAX", 1000)
    log = log_path_of(planted)
    log.write_text(f"Bearer {'q' * 995}\n" + "the last line\n" * 3)
    found = bundle(planted)
    text = next(data for name, data in found.items() if name.endswith("engine.log"))
    assert text == b"the last line\n" * 3


def test_only_its_owner_reads_it_and_nothing_is_overwritten(
    planted: Path, home: Path, capfd: Capture
) -> None:
    out = home / "out.tar.gz"
    out.write_text("mine")
    out.chmod(0o644)
    arguments = ["doctor", "bundle", str(planted), "-o", str(out)]
    assert cli.run(arguments) == 2
    assert "`--force` overwrites it" in capfd.readouterr().err
    assert out.read_text() == "mine"
    assert cli.run([*arguments, "--force"]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "manifest.json" in contents(out)
    assert [path.name for path in home.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_may_not_be_written_is_told_before_the_work(
    planted: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setattr("kvtier_ops.bundle.make.make_bundle", lambda *_: pytest.fail("it works"))
    monkeypatch.chdir(planted.parent)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    for more in ([], ["-o", str(planted.parent / "b.tgz")]):
        assert cli.run(["doctor", "bundle", *more]) == 3
        assert "cannot be written" in capfd.readouterr().err


def test_a_file_system_without_links(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    made, path = Bundle("b", (), {}, b"{}"), planted.parent / "b.tgz"
    write_bundle(made, path, force=False)
    assert contents(path) == {"manifest.json": b"{}"}
    with pytest.raises(BadInput, match="exists"):
        write_bundle(made, path, force=False)
    assert not list(planted.parent.glob(".b.tgz*"))


def test_what_is_missing_is_told_in_one_line(planted: Path, capfd: Capture) -> None:
    planted.write_text(planted.read_text().replace("path: ", "path: /nowhere"))
    bundle(planted)
    [line] = [each for each in capfd.readouterr().out.splitlines() if "missing: plan" in each]
    assert "` hint: " in line


def test_the_default_name_and_the_help(
    planted: Path, home: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    assert cli.run(["doctor", "bundle"]) == 0
    [made] = home.glob("kvtier-bundle-*.tar.gz")
    assert "manifest.json" in contents(made)
    capfd.readouterr()
    assert cli.run(["doctor", "bundle", "--help"]) == 0
    out = capfd.readouterr().out
    assert "kvtier doctor bundle [OPTIONS]" in out
    assert "--force" in out
    assert cli.run(["doctor", "--help"]) == 0
    out = capfd.readouterr().out
    assert "`kvtier doctor bundle`" in out
    assert "--live" in out


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["nowhere.yaml"], 2, "nowhere.yaml: there is no such file"),
        (["-o", "/nowhere/x.tar.gz"], 2, "there is no folder `/nowhere`"),
        (["-o", "/tmp"], 2, "`/tmp` is a folder"),
        (["-o", "/proc/x.tar.gz"], 3, "cannot be written"),
        (["--nonsense"], 2, "`kvtier doctor bundle --help` lists what there is"),
    ],
)
def test_mistakes(capfd: Capture, arguments: list[str], code: int, what: str) -> None:
    assert cli.run(["doctor", "bundle", *arguments]) == code
    assert what in capfd.readouterr().err


def test_a_profile_named_bundle_is_a_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_profile(home).rename(home / "bundle")
    monkeypatch.chdir(home)
    assert cli.run(["doctor", "./bundle"]) in (0, 4)
    assert list(home.glob("kvtier-bundle-*")) == []


def test_what_is_left_all_the_same_is_left_out(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last look at the bytes does not trust the cleaning."""
    monkeypatch.setattr(Redactor, "clean", lambda self, text, numbers=True: text)
    made: Bundle = make_bundle(planted, [], "", lambda *said: None)
    assert not any(VARIABLE.encode() in item.data for item in made.items)
    assert made.missing["environment.txt"] == "a secret was left in it, so it is left out"
