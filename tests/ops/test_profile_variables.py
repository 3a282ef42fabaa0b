"""`${NAME}` in values: what they become, and what of them is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kvtier_ops import cli
from kvtier_ops.errors import ProfileError
from kvtier_ops.paths import expand, substitute
from kvtier_ops.profile.load import ProfileFile, load_profile
from kvtier_ops.profile.render import profile_as_yaml
from kvtier_ops.profile.secrets import MASK, looks_secret, masked_environment
from kvtier_ops.units import Size


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "V_IP": "10.0.0.7",
        "V_EMPTY": "",
        "V_SIZE": "64",
        "V_LIST": "a, b",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NOPE", raising=False)


def load(home: Path, text: str, *overrides: str) -> ProfileFile:
    path = home / "p.yaml"
    path.write_text("version: 1\n" + text)
    return load_profile(path, overrides)


def errors(home: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ProfileError) as raised:
        load(home, text, *overrides)
    return raised.value.render().replace(f"{home}/", "")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("${V_IP}", "10.0.0.7"),
        ("a-${V_IP}.${V_IP}", "a-10.0.0.7.10.0.0.7"),
        ("${NOPE:-x}", "x"),
        ("${V_EMPTY:-x}", "x"),
        ("${V_IP:-x}", "10.0.0.7"),
        ("${V_IP:-}", "10.0.0.7"),
        ("$${V_IP}", "${V_IP}"),
        ("$V_IP", "$V_IP"),
        ("$", "$"),
        ("$$", "$$"),
        ("${V_LIST}", "a, b"),
    ],
)
def test_values(home: Path, written: str, meant: str) -> None:
    profile = load(home, f"model:\n  served_name: {written}\n").profile
    assert profile.model.served_name == meant
    profile = load(home, f'model: {{served_name: "{written}"}}\n').profile
    assert profile.model.served_name == meant


def test_every_kind_of_value_takes_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"P": "81", "OFF": "off", "N": "1", "W": "all", "SEC": "1.5"}.items():
        monkeypatch.setenv(f"V_{name}", value)
    text = """
tiers:
  page_tokens: ${NOPE:-128}
  prefix_reuse: ${V_OFF}
  l2:
    size: ${V_SIZE}GiB
    numa: [0, "${V_N}"]
  l3:
    admission: ${V_W}
server: {port: "${V_P}", drain_s: "${V_SEC}"}
engine:
  environment: {A: "<${V_IP}>"}
"""
    profile = load(home, text, "tiers.l1.size=${V_SIZE}MiB").profile
    assert profile.tiers.page_tokens == 128
    assert profile.tiers.prefix_reuse is False
    assert profile.tiers.l1.size == Size(64 << 20)
    assert profile.tiers.l2.size == Size(64 << 30)
    assert profile.tiers.l2.numa == (0, 1)
    assert profile.tiers.l3.admission == "all"
    assert (profile.server.port, profile.server.drain_s) == (81, 1.5)
    assert profile.engine.environment == {"A": "<10.0.0.7>"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server:\n  host: ${NOPE}\n", "p.yaml:3:9: `server.host`: the environment has no `NOPE`"),
        ("server:\n  host: ${NOPE}\n", "or write a default, as in `${NOPE:-VALUE}`"),
        ("server:\n  host: ${NOPE\n", "never closed"),
        ("server:\n  host: ${}\n", "the name of a variable"),
        ("server:\n  host: ${NOPE-x}\n", "`:-` and a plain default"),
        ("server:\n  host: ${NOPE:-${V_IP}}\n", "`:-` and a plain default"),
        ("server: {host: ${V_IP}}\n", 'needs quotes: `"${V_IP}"`'.replace("V_IP", "NAME")),
        ("server: {${V_IP}: 1}\n", "p.yaml:2:"),
        ("${V_IP}: 1\n", "a field's name is written out"),
        ("tiers:\n  l3: {directories: [$NOPE/a, b]}\n", "p.yaml:3:22: `tiers.l3.directories[0]`"),
        ("engine:\n  environment: {A: '${NOPE}'}\n", "p.yaml:3:20: `engine.environment.A`"),
        (f"server: {{host: '{MASK}'}}\n", "hides a value where a profile is shown"),
    ],
)
def test_mistakes(home: Path, text: str, said: str) -> None:
    found = errors(home, text)
    assert said in found
    assert found.count("error:") == 1


def test_each_missing_one_is_told_once_and_with_all_else(home: Path) -> None:
    said = errors(home, "tiers:\n  l2: {size: '${NOPE}', numa: ['${NOPE}', x]}\nprot: 1\n")
    assert said.count("`NOPE`") == 2
    assert "p.yaml:4:1" in said
    said = errors(home, "", "server.port=${NOPE}", "server.host=${NOPE}")
    assert said.count("--set server.port: the environment has no") == 1
    assert said.count("--set server.host: the environment has no") == 1


def test_errors_show_what_was_written_never_what_it_became(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = errors(home, "tiers:\n  l2:\n    size: ${V_SIZE}\n")
    assert "write `${V_SIZE}GiB` or `${V_SIZE}MiB`, not `${V_SIZE}`" in said
    monkeypatch.setenv("V_X", "hunter2 Q9zz")
    fields = [
        "tiers.l2.size", "tiers.l3.reserve", "tiers.l3.write_bytes_per_day", "engine.threads",
        "server.port", "tiers.prefix_reuse", "tiers.l2.numa", "host.cpu_nodes", "model.dtype",
        "cluster.master_address", "server.admin_key.env", "version", "tiers.l3.admit_sightings",
        "cluster.node_rank", "server.drain_s", "server.api_keys", "engine.environment",
    ]  # fmt: skip
    for field in fields:
        said = errors(home, "", f"{field}=${{V_X}}")
        assert "V_X" in said, field
        assert "hunter2" not in said, field
        assert "Q9zz" not in said, field
        said = errors(home, "", f"{field}=x-${{V_X}}")
        assert "hunter" not in said, field
    monkeypatch.setenv("V_X", "§!" * 30)
    for field in ("server.port", "tiers.l2.size", "model.dtype"):
        assert "§!" not in errors(home, "", f"{field}=${{V_X}}"), field
    assert "must be a whole number, not `${V_X}`" in errors(home, "", "server.port=${V_X}")
    for value in ("123abc456", "7zGiB", "hunter2" * 9, "1,5GiB", "0x77", "8_765"):
        monkeypatch.setenv("V_X", value)
        said = errors(home, "", "tiers.l2.size=${V_X}", "engine.threads=${V_X}")
        assert not any(piece in said for piece in ("123", "456", "7z", "hunter", "1.5", "8765"))


def test_paths_take_both_forms_in_one_pass(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("V_ODD", "/data/$V_IP")
    text = (
        "tiers:\n  l3:\n    directories:\n      - ${XDG_CACHE_HOME}/a\n      - $XDG_CACHE_HOME/b\n"
        "      - ${V_ODD}/c\n      - $V_ODD/d\n      - x/$$V_IP\n      - x/$${V_IP}\n"
        "      - ${XDG_CACHE_HOME:-/e}/f\n"
    )
    found = load(home, text).profile.tiers.l3.directories
    assert list(map(str, found)) == [
        f"{home}/.cache/a", f"{home}/.cache/b", "/data/$V_IP/c", "/data/$V_IP/d",
        f"{home}/x/$V_IP", f"{home}/x/${{V_IP}}", "/e/f",
    ]  # fmt: skip
    assert expand("${V_IP}", home) == home / "10.0.0.7"
    assert substitute("${XDG_CACHE_HOME}/a").text == f"{home}/.cache/a"


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("HF_TOKEN", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("apiKey2", True),
        ("DB_PASSWORD", True),
        ("GOOGLE_CREDENTIALS", True),
        ("KEYS", True),
        ("max_context_tokens", False),
        ("TOKENIZERS_PARALLELISM", False),
        ("KEYBOARD", False),
        ("NCCL_DEBUG", False),
    ],
)
def test_names_of_secrets(name: str, is_secret: bool) -> None:
    assert looks_secret(name) is is_secret


def test_secrets_are_masked_where_profiles_are_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("V_API_KEY", "s3cret-a")
    monkeypatch.setenv("V_PLAIN", "s3cret-b")
    text = (
        "model:\n  served_name: x${V_API_KEY}\nserver:\n  host: ${V_IP}\n"
        'tiers:\n  l3:\n    directories: ["${V_API_KEY}/a", b]\n'
        "engine:\n  environment:\n    HF_TOKEN: s3cret-c\n    MY_PASSWORD: ${V_PLAIN}\n"
        "    SEEN: ${V_PLAIN}\n    PROXY: http://me:s3cret-d@host:1/x\n    NO_KEY: ''\n"
    )
    file = load(home, text)
    assert file.profile.engine.environment["HF_TOKEN"] == "s3cret-c"
    shown = yaml.safe_load(profile_as_yaml(file.profile, file.tree))
    assert shown["model"]["served_name"] == MASK
    assert shown["server"]["host"] == "10.0.0.7"
    assert shown["tiers"]["l3"]["directories"] == [MASK, str(home / "b")]
    assert shown["engine"]["environment"] == {
        "HF_TOKEN": MASK,
        "MY_PASSWORD": MASK,
        "SEEN": "s3cret-b",
        "PROXY": f"http://{MASK}@host:1/x",
        "NO_KEY": "",
    }
    assert cli.run(["profile", "show", str(home / "p.yaml")]) == 0
    out = capfd.readouterr().out
    assert not [word for word in ("s3cret-a", "s3cret-c", "s3cret-d") if word in out]
    (home / "q.yaml").write_text(out)
    assert cli.run(["profile", "validate", str(home / "q.yaml")]) == 2
    assert "write the value itself" in capfd.readouterr().err


def test_masked_environment_leaves_the_original() -> None:
    environment = {"A_KEY": "x", "B": "y"}
    assert masked_environment(environment) == {"A_KEY": MASK, "B": "y"}
    assert environment == {"A_KEY": "x", "B": "y"}
