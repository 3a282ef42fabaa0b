"""`kvtier plan` as an operator types it: other hosts and models, one number, a page, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ops.launched import write_profile

from kvtier_ops import cli

CAPTURE = pytest.CaptureFixture[str]


def run(capfd: CAPTURE, *arguments: str, code: int = 0) -> str:
    """What `kvtier plan ARGUMENTS` prints; nothing else is said."""
    assert cli.run(["plan", *arguments]) == code, capfd.readouterr().err
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    if code:
        assert out == ""
        return err
    return out


def test_one_number(home: Path, capfd: CAPTURE) -> None:
    path = str(write_profile(home))
    assert run(capfd, path, "--explain", "tiers.l1.size").startswith("tiers.l1.size = ")
    said = run(capfd, path, "--explain", "l1.sise", code=2)
    assert "hint: did you mean `tiers.l1.size`?" in said


def test_json_and_its_schema(home: Path, capfd: CAPTURE) -> None:
    made = json.loads(run(capfd, str(write_profile(home)), "--json"))
    schema = json.loads(run(capfd, "--json-schema"))
    assert set(made) == set(schema["properties"])


def test_without_a_profile(home: Path, capfd: CAPTURE) -> None:
    assert "missing argument 'PROFILE'" in run(capfd, code=2)


def test_another_host_and_another_model(home: Path, capfd: CAPTURE) -> None:
    path = str(write_profile(home))
    host = home / "host.json"
    assert cli.run(["host", "record", "--output", str(host)]) == 0
    capfd.readouterr()
    here = json.loads(run(capfd, path, "--host", str(host), "--json"))
    assert here["tiers"]["l1"]["bytes"] <= 4 << 20
    parts = ("--what-if", "gpu=2xH100-80G,mem=1TiB", "--set", "engine.tensor_parallel=2")
    there = json.loads(run(capfd, path, "--host", str(host), *parts, "--json"))
    assert (there["device"], there["ranks_here"]) == ("cuda", 2)
    assert there["memory"][-1]["usable_bytes"] > 900 << 30
    assert "no model at" in run(capfd, path, "--what-if", f"model={home}/none", code=2)
    assert "error: --what-if" in run(capfd, path, "--what-if", "gpux=3", code=2)
    assert "cannot be read: No such file" in run(capfd, path, "--host", f"{home}/none", code=2)


def test_a_model_alone_is_planned_on_this_host(home: Path, capfd: CAPTURE) -> None:
    path = str(write_profile(home))
    made = run(capfd, path, "--what-if", f"model={home / 'model' / 'config.json'}", "--json")
    model = json.loads(made)["model"]
    assert model["path"].endswith("config.json")
    assert (
        model["kv_token_bytes"] == json.loads(run(capfd, path, "--json"))["model"]["kv_token_bytes"]
    )


def test_disks_that_there_are_not(home: Path, capfd: CAPTURE) -> None:
    path = str(write_profile(home))
    l3 = ("--set", "tiers.l3.directories=[/a/b, /c]", "--set", "tiers.l3.size=2TB")
    made = json.loads(run(capfd, path, *l3, "--what-if", "disk=2x3.84TB-nvme", "--json"))
    assert [disk["kind"] for disk in made["disks"]] == ["nvme", "nvme"]
    assert made["tiers"]["l3"]["bytes"] == 2 * 10**12
    one = json.loads(run(capfd, path, *l3, "--what-if", "disk=1x3.84TB-hdd", "--json"))
    assert [disk["kind"] for disk in one["disks"]] == ["hdd", "hdd"]
    said = run(capfd, path, *l3, "--what-if", "disk=1x1TB-nvme", code=3)
    assert "KVT-P204" in said


def test_what_it_takes(home: Path, capfd: CAPTURE) -> None:
    path = str(write_profile(home))
    said = run(capfd, path, "--target", "20 users x 1k tokens")
    assert "20 users x 1,024 tokens are 20,480 tokens" in said
    assert "is not a target" in run(capfd, path, "--target", "many", code=2)


def test_wear_of_a_load(home: Path, capfd: CAPTURE) -> None:
    path = str(write_profile(home))
    l3 = ("--set", f"tiers.l3.directories=[{home}/pages]", "--set", "tiers.l3.size=64MiB")
    load = "3 requests/s x 100 tokens"
    assert load in run(capfd, path, *l3, "--load", load)
    assert "is not a load" in run(capfd, path, *l3, "--load", "some", code=2)


def test_a_page(home: Path, capfd: CAPTURE) -> None:
    path, page = str(write_profile(home)), home / "plan.html"
    assert cli.run(["plan", path, "--html", str(page)]) == 0
    out, err = capfd.readouterr()
    assert "host memory" in out
    assert err == f"wrote {page}\n"
    assert page.read_text().startswith("<!doctype html>")
    assert "`--force` overwrites it" in run(capfd, path, "--html", str(page), code=2)
    assert cli.run(["plan", path, "--html", str(page), "--force"]) == 0
    capfd.readouterr()
    assert "there is no folder" in run(capfd, path, "--html", f"{home}/none/plan.html", code=2)


def test_a_target_as_json(home: Path, capfd: CAPTURE) -> None:
    path = str(write_profile(home))
    made = json.loads(run(capfd, path, "--target", "4 users x 1k tokens, 2 active", "--json"))
    assert made["target"]["users"] == 4
    assert {"name", "l1_bytes", "lacks", "pays"} <= set(made["options"][0])


def test_what_does_not_go_together(home: Path, capfd: CAPTURE) -> None:
    path = str(write_profile(home))
    assert "do not go together" in run(capfd, path, "--explain", "prefill", "--json", code=2)
    page = home / "plan.html"
    run(capfd, path, "--html", str(page), "--target", "nonsense", code=2)
    assert not page.exists()


def test_a_target_goes_by_no_limit_of_the_profile(home: Path, capfd: CAPTURE) -> None:
    """What is worked out has to be possible where it is written in."""
    limits = ("--set", "engine.max_prompt_tokens=8", "--set", "tiers.l1.max_tokens=64")
    path = str(write_profile(home))
    assert "<- the cheapest" in run(capfd, path, *limits, "--target", "4 users x 1k tokens")
