"""`kvtier doctor` on the command line: selecting, listing, explaining, JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from ops.doctored import load
from ops.launched import write_profile

from kvtier_ops import cli
from kvtier_ops.doctor import CHECKS
from kvtier_ops.doctor.registry import ENTRIES, GROUPS
from kvtier_ops.doctor.report import json_schema
from kvtier_ops.doctor.select import named, select
from kvtier_ops.errors import BadInput

Capture = pytest.CaptureFixture[str]


def run(capfd: Capture, *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.run(["doctor", *map(str, arguments)])
    out, err = capfd.readouterr()
    return code, out, err


def run_json(capfd: Capture, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    code, out, _ = run(capfd, *arguments, "--json")
    said: dict[str, Any] = json.loads(out)
    return code, said


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("KVT-D101", {"KVT-D101"}),
        ("d101", {"KVT-D101"}),
        ("KVT-D10", {"KVT-D101", "KVT-D102", "KVT-D103", "KVT-D104"}),
        ("environment", {"KVT-D101", "KVT-D102", "KVT-D103", "KVT-D104"}),
        ("Clock", {"KVT-D801", "KVT-D802"}),
        ("KVT-P10", {"KVT-P101", "KVT-P102", "KVT-P103", "KVT-P104"}),
    ],
)
def test_names(name: str, ids: set[str]) -> None:
    assert {entry.id for entry in named(name, "--only")} == ids


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("memry", "did you mean `memory`?"),
        ("KVT-D999", "did you mean `KVT-D"),
        ("", "no check"),
        ("KVT-X", "no check"),
        ("\x1b[31m", "no check"),
    ],
)
def test_names_of_nothing(name: str, hint: str) -> None:
    with pytest.raises(BadInput, match=re.escape(hint.replace("`", "`"))) as caught:
        select(only=[name])
    assert "\x1b" not in caught.value.render()
    assert "--only" in caught.value.render()


def test_selection() -> None:
    disk = select(only=["disk"], skip=["KVT-D30"])
    assert not disk.has("KVT-D301")
    assert disk.has("KVT-D321")
    assert not disk.has("KVT-D201")
    but_clock = select(skip=["clock"])
    assert not but_clock.has("KVT-D801")
    assert but_clock.has("KVT-D201")
    with pytest.raises(BadInput, match="takes away all"):
        select(only=["clock"], skip=["clock"])
    with pytest.raises(BadInput, match="told by the check KVT-D201"):
        select(only=["KVT-P203"])


def test_only_and_skip(home: Path, capfd: Capture) -> None:
    profile = write_profile(home)
    code, said = run_json(capfd, profile, "--only", "server", "--only", "KVT-D101")
    assert code == 0
    ids = {each["id"] for each in said["findings"]}
    assert ids == {"KVT-D101", "KVT-D501", "KVT-D503", "KVT-D504"}
    _, said = run_json(capfd, profile, "--skip", "environment", "--skip", "D501")
    ids = {each["id"] for each in said["findings"]}
    assert not [id for id in ids if id.startswith("KVT-D10") or id == "KVT-D501"]
    assert "KVT-D201" in ids


def test_warnings_of_the_plan_can_be_skipped(home: Path, capfd: Capture) -> None:
    options = (write_profile(home), "--set", "tiers.l1.size=6MiB", "--only", "plan")
    code, said = run_json(capfd, *options)
    assert (code, [each["id"] for each in said["findings"]]) == (4, ["KVT-P001"])
    assert run_json(capfd, *options, "--strict")[0] == 3
    code, out, _ = run(capfd, *options, "--skip", "KVT-P001")
    assert (code, out) == (0, "nothing of this applies here\n")


def test_what_needs_a_profile_is_refused_without_one(capfd: Capture) -> None:
    code, _, err = run(capfd, "--only", "disk")
    assert code == 2
    assert "none is named" in err
    assert run(capfd, "--only", "KVT-D101")[0] == 0


def test_checks_of_an_engine_and_of_a_host_are_not_mixed_up(home: Path, capfd: Capture) -> None:
    """Nothing would be looked at, and that would count as well."""
    profile = load(home).path
    for arguments in (["--only", "L1"], [profile, "--only", "KVT-L101"]):
        code, _, err = run(capfd, *arguments)
        assert (code, "--live URL" in err) == (2, True), err
    code, _, err = run(capfd, "--live", "http://127.0.0.1:1", "--only", "disk")
    assert (code, "they look at the host" in err) == (2, True), err


def test_mistakes_are_bad_input(home: Path, capfd: Capture) -> None:
    assert run(capfd, "--only", "dsik")[0] == 2
    assert run(capfd, "--explain", "KVT-D999")[0] == 2
    assert run(capfd, home / "none.yaml")[0] == 2
    assert run(capfd, "--no-such-option")[0] == 2
    assert run(capfd, "--explain", "")[0] == 2


@pytest.mark.parametrize("url", ["", " "])
@pytest.mark.parametrize("command", [(), ("bundle",)])
def test_an_address_that_is_empty_is_none(capfd: Capture, url: str, command: tuple[str]) -> None:
    """As an unset variable leaves it: the host is not what was asked about."""
    code, out, err = run(capfd, *command, "--live", url)
    assert (code, out) == (2, "")
    assert "error: --live: needs a URL" in err


@pytest.mark.parametrize("option", [("--set", "tiers.l2.size=1GiB"), ("--node-rank", "0")])
def test_what_changes_a_profile_wants_one(capfd: Capture, option: tuple[str, str]) -> None:
    code, out, err = run(capfd, *option)
    assert (code, out) == (2, "")
    assert f"error: {option[0]}: changes a profile, and none is named" in err


def test_explain(capfd: Capture) -> None:
    code, out, _ = run(capfd, "--explain", "KVT-D205")
    assert code == 0
    assert "KVT-D205  hugepages" in out
    assert "memory, failure, needs a plan" in out
    assert "told by KVT-D201" in run(capfd, "--explain", "KVT-P203")[1]
    group = run(capfd, "--explain", "clock")[1]
    assert "KVT-D801" in group
    assert "KVT-D802" in group
    assert all(len(line) <= 80 for line in group.splitlines())


def test_list(capfd: Capture) -> None:
    code, out, _ = run(capfd, "--list")
    assert code == 0
    for entry in ENTRIES:
        assert f"  {entry.id}  " in out
    assert set(GROUPS) <= set(out.splitlines())
    assert all(len(line) <= 80 for line in out.splitlines())


def test_list_and_explain_as_json(capfd: Capture) -> None:
    code, said = run_json(capfd, "--list")
    assert code == 0
    assert [each["id"] for each in said["checks"]] == [entry.id for entry in ENTRIES]
    code, said = run_json(capfd, "--explain", "D205")
    [check] = said["checks"]
    assert {name: check[name] for name in ("id", "group", "severity", "needs", "told_by")} == {
        "id": "KVT-D205",
        "group": "memory",
        "severity": "failure",
        "needs": "plan",
        "told_by": "",
    }
    assert check["passes"]
    assert check["why"]
    assert {each["needs"] for each in run_json(capfd, "--list")[1]["checks"]} == {
        "nothing", "profile", "plan", "engine", "nodes",
    }  # fmt: skip
    assert run(capfd, "--explain", "KVT-D999", "--json")[0] == 2


def test_json_is_as_its_schema_says(home: Path, capfd: Capture) -> None:
    code, out, _ = run(capfd, "--json-schema")
    schema = json.loads(out)
    assert (code, schema) == (0, json_schema())
    validator = jsonschema_rs.validator_for(schema)
    profile = write_profile(home)
    for arguments in ([], [profile], [profile, "--set", "tiers.l2.size=900TiB", "--strict"]):
        code, said = run_json(capfd, *arguments)
        validator.validate(said)
        assert said["summary"]["exit_code"] == code
        assert said["summary"]["checks"] == len(said["findings"])
        counted = [said["summary"][name] for name in ("ok", "warnings", "failures", "errors")]
        assert sum(counted) == len(said["findings"])
        assert said["profile"] == (str(profile) if arguments else None)
    assert code == 3
    assert not validator.is_valid({**said, "version": 2})
    del said["findings"][0]["reason"]
    assert not validator.is_valid(said)


def test_piped_output_has_no_colour_and_is_narrow(home: Path, capfd: Capture) -> None:
    _, out, err = run(capfd, write_profile(home))
    assert "\x1b" not in out
    assert err == ""
    assert out.splitlines()[0] == "environment"


def test_a_broken_check_is_exit_code_1(
    home: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from kvtier_ops.doctor import examine

    def breaks(context: object) -> list[Any]:
        raise RuntimeError("oh no")

    checks = tuple(replace(c, look=breaks) if c.id == "KVT-D801" else c for c in CHECKS)
    monkeypatch.setattr(examine, "CHECKS", checks)
    load(home)
    code, out, _ = run(capfd, home / "small.yaml")
    assert code == 1
    assert "the check itself failed: RuntimeError: oh no" in " ".join(out.split())
    assert "KVT-D201" in out
