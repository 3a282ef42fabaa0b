"""`kvtier profile init`: what it writes holds on this host, and it asks politely."""

from __future__ import annotations

import json
import os
import shlex
import stat
import sys
from pathlib import Path

import jsonschema_rs
import pexpect
import pytest
import yaml
from ops.builders import GIB, make_host, make_model

from kvtier_ops import cli, prepare
from kvtier_ops.cli import profile_init
from kvtier_ops.cli.profile_init import repeat
from kvtier_ops.host import Gpu
from kvtier_ops.profile.draft import Answers, Use, page_tokens, quoted, round_size, show_size
from kvtier_ops.profile.load import load_profile
from kvtier_ops.units import parse_size


@pytest.fixture
def model(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """In the folder from which `init` is called."""
    monkeypatch.chdir(home)
    make_model(home / "my model")
    return "my model"


def init(*arguments: str) -> int:
    return cli.run(["profile", "init", "--yes", *arguments])


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--use", "documents", "--port", "0"],
        ["--use", "mixed", "--l3", "disk a", "--l3", "~/b", "--host", "0.0.0.0"],
    ],
)
def test_what_is_written_is_valid_and_fits(
    home: Path, model: str, capfd: pytest.CaptureFixture[str], options: list[str]
) -> None:
    (home / "sub").mkdir()
    assert init("--model", model, *options, "--output", "sub/p.yaml") == 0
    assert capfd.readouterr().out == ""
    path = home / "sub/p.yaml"
    assert cli.run(["plan", str(path)]) == 0
    profile = load_profile(path).profile
    assert profile.model.path == str(home / model)
    if "--l3" in options:
        assert profile.tiers.l3.directories == (home / "disk a", home / "b")
    assert "~/" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert os.listdir(home / "sub") == ["p.yaml"]


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_every_line_of_a_value_says_why(model: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert init("--model", model, "--l3", "d") == 0
    lines = capfd.readouterr().out.splitlines()
    values = [line for line in lines if line.partition("#")[0].partition(":")[2].strip()]
    bare = [line for line in values if "# " not in line]
    assert bare == ["version: 1", "  port: 8000"]


def test_same_flags_same_text_and_sizes_of_the_host(
    model: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(memory_available_bytes=40 * GIB, memory_total_bytes=48 * GIB)
    monkeypatch.setattr(prepare, "probe", lambda **_: host)
    assert init("--model", model) == 0
    first = capfd.readouterr().out
    assert init("--model", model) == 0
    assert capfd.readouterr().out == first
    tiers = yaml.safe_load(first)["tiers"]
    assert 7 * GIB < parse_size(tiers["l1"]["size"]).bytes < 10 * GIB
    assert 10 * GIB < parse_size(tiers["l2"]["size"]).bytes < 15 * GIB
    assert tiers["page_tokens"] == 32
    assert "4 CPUs, 48.0 GiB of memory, no GPU" in first


def test_pages_suit_use_and_device(
    model: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(gpus=(Gpu("H100", 80 * GIB, 79 * GIB),))
    monkeypatch.setattr(prepare, "probe", lambda **_: host)
    assert init("--model", model) == 0
    text = capfd.readouterr().out
    assert "  page_tokens: 64" in text
    assert "GPU memory" in text
    assert "1 GPU (H100)" in text
    assert [page_tokens(use, "cuda") for use in Use] == [64, 256, 128]
    assert [page_tokens(use, "cpu") for use in Use] == [32, 256, 128]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--model", "nope"], 2, "there is no model at"),
        (["--model", "smollm2-135m"], 2, "has not been pulled yet"),
        (["--output", "there.yaml"], 2, "`there.yaml` exists\nhint: `--force` overwrites it"),
        (["--output", "none/p.yaml"], 2, "there is no folder `none`"),
        (["--output", "."], 2, "is a folder"),
        (["--output", "p.yaml", "--schema", "./p.yaml"], 2, "are two files"),
        (["--schema", "there.yaml"], 2, "exists"),
        (["--l3", "d", "--l3", "./d"], 2, "the same folder stands there twice"),
        (["--l3", "$NOPE/d"], 2, "the environment has no `NOPE`"),
        (["--l3", "a\nb"], 2, "printable"),
        (["--host", "a b"], 2, "write an address"),
        (["--port", "70000"], 2, "65535"),
        (["--use", "games"], 2, "games"),
    ],
)
def test_mistakes_write_nothing(
    home: Path, model: str, capfd: pytest.CaptureFixture[str], options: list[str], code: int,
    said: str,
) -> None:  # fmt: skip
    (home / "there.yaml").write_text("mine\n")
    before = sorted(os.listdir(home))
    assert init(*(["--model", model] if "--model" not in options else []), *options) == code
    out, err = capfd.readouterr()
    assert said in err
    assert err.startswith("error: ")
    assert out == ""
    assert sorted(os.listdir(home)) == before
    assert (home / "there.yaml").read_text() == "mine\n"


def test_a_host_without_room_is_refused(
    home: Path, model: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(memory_available_bytes=GIB // 8)
    monkeypatch.setattr(prepare, "probe", lambda **_: host)
    assert init("--model", model, "--output", "p.yaml") == 3
    assert not (home / "p.yaml").exists()


def test_a_write_that_fails_leaves_the_old_file(
    home: Path, model: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    (home / "p.yaml").write_text("mine\n")
    before = sorted(os.listdir(home))
    monkeypatch.setattr(os, "fsync", full)
    assert init("--model", model, "--output", "p.yaml", "--force") == 3
    assert "No space left" in capfd.readouterr().err
    assert (home / "p.yaml").read_text() == "mine\n"
    assert sorted(os.listdir(home)) == before
    monkeypatch.undo()
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    assert init("--model", model, "--output", "p.yaml", "--force") == 0
    assert load_profile(home / "p.yaml").profile.server.port == 8000


def test_the_schema_is_written_where_the_editor_looks(home: Path, model: str) -> None:
    (home / "sub").mkdir()
    assert init("--model", model, "--output", "sub/p.yaml", "--schema", "k.json") == 0
    text = (home / "sub/p.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=../k.json\n")
    schema = json.loads((home / "k.json").read_text())
    jsonschema_rs.validator_for(schema).validate(yaml.safe_load(text))


def spawn(home: Path, *options: str) -> pexpect.spawn[str]:
    return pexpect.spawn(
        sys.executable,
        ["-P", "-m", "kvtier_ops", "profile", "init", *options],
        cwd=str(home),
        env={**os.environ, "NO_COLOR": "1"},
        dimensions=(24, 400),
        encoding="utf-8",
        timeout=20,
    )


def test_it_asks_and_repeats_itself(
    home: Path, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    child = spawn(home, "--output", "p.yaml", "--use", "mixed")
    child.expect(r"this host: \d+ CPUs")
    child.expect(r"Model: .*\[smollm2-135m\]: ")
    child.sendline("")
    child.expect("has not been pulled yet: `kvtier model pull smollm2-135m`")
    child.sendline(model)
    child.expect(r"Folders .*\[none\]: ")
    child.sendline("'a b' c")
    child.expect(r"Address .*\[127.0.0.1\]: ")
    child.sendline("")
    child.expect(r"Port.*\[8000\]: ")
    child.sendline("x")
    child.expect("whole number from 0 to 65535")
    child.sendline("81")
    child.expect(r"without questions: ([^\r]*)\r")
    line = str(child.match.group(1)) if child.match and child.match is not pexpect.EOF else ""
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    text = (home / "p.yaml").read_text()
    profile = load_profile(home / "p.yaml").profile
    assert profile.tiers.l3.directories == (home / "a b", home / "c")
    assert profile.server.port == 81
    assert cli.run([*shlex.split(line)[1:], "--force"]) == 0
    assert (home / "p.yaml").read_text() == text


def test_ctrl_c_leaves_no_file(home: Path, model: str) -> None:
    child = spawn(home, "--output", "p.yaml")
    child.expect(r"\[smollm2-135m\]: ")  # its last character is readline's: it listens now
    child.sendintr()
    child.expect("interrupted")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert not (home / "p.yaml").exists()


def test_without_a_terminal_it_asks_nothing(model: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["profile", "init", "--model", model]) == 0
    out, err = capfd.readouterr()
    assert yaml.safe_load(out)["version"] == 1
    assert err == ""


def test_the_line_that_repeats_it_is_quoted() -> None:
    answers = Answers("~/a b", Use.CHAT, ("~/$$x",), "h", 1)
    line = repeat(answers, {"--output": Path("p q.yaml"), "--schema": None}, True)
    assert shlex.split(line) == [
        "kvtier", "profile", "init", "--yes", "--model", "~/a b", "--use", "chat", "--l3", "~/$$x",
        "--host", "h", "--port", "1", "--output", "p q.yaml", "--force",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["/a/b", "~/a b", "a: b", "x #y", "- a", "null", "no", "é", '"', "a:", "${X:-y}", "*a"]
)
def test_quoted_values_read_back(text: str) -> None:
    assert yaml.load(f"a: {quoted(text)}", yaml.BaseLoader) == {"a": text}


@pytest.mark.parametrize("count", [0, 1, 1000, 4096, 10 * GIB, 11 * GIB + 12345, 3 << 40])
def test_sizes_are_round_never_more_and_exact(count: int) -> None:
    rounded = round_size(count)
    assert count * 0.8 - 2 <= rounded <= count
    assert parse_size(show_size(rounded)).bytes == rounded


@pytest.mark.parametrize(
    ("count", "shown"),
    [(10 * GIB, "10GiB"), (11 * GIB // 2, "5.5GiB"), (15 * GIB // 8, "1920MiB"), (1025, "1025B")],
)
def test_sizes_read_well(count: int, shown: str) -> None:
    assert show_size(count) == shown
    assert show_size(round_size(int(10.7 * GIB))) == "10GiB"


def test_who_reads_the_old_file_reads_all_of_it(home: Path, model: str) -> None:
    (home / "p.yaml").write_text("mine\n")
    with open(home / "p.yaml") as old:
        assert init("--model", model, "--output", "p.yaml", "--force") == 0
        assert old.read() == "mine\n"


def test_defaults_are_those_of_the_schema() -> None:
    from kvtier_ops.profile.schema import Profile

    profile = Profile(version=1)
    assert profile.model.path == profile_init.DEFAULT_MODEL
    assert profile.server.host == profile_init.DEFAULT_HOST
    assert profile.server.port == profile_init.DEFAULT_PORT


def test_a_file_that_is_replaced_keeps_its_mode_and_links_lead_to_it(home: Path) -> None:
    from kvtier_ops.cli.files import write_whole

    kept, link = home / "kept.yaml", home / "link.yaml"
    kept.write_text("old")
    kept.chmod(0o600)
    link.symlink_to(kept)
    write_whole(link, "new")
    assert link.is_symlink()
    assert kept.read_text() == "new"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert sorted(item.name for item in home.iterdir() if "yaml" in item.name) == [
        "kept.yaml",
        "link.yaml",
    ]
