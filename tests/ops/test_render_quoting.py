"""Odd names come out as they went in: each artefact is read back by the tool that runs it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ops.rendered import (
    as_shell_reads,
    read_by_systemd,
    render,
    run_script,
    service,
    small_profile,
    tool,
)

from kvtier_ops.render import Service
from kvtier_ops.render.systemd import quoted

ODD = " \"'$%\\{}#;&|<>*?~!()[]=,@`^é"
WORST = "a b\"c'd$HOME%n\\e${X}#f;g $(id)`i`"
NAMES = st.text(ODD + "an0", min_size=1, max_size=12).filter(
    lambda name: name.strip(". ") == name and name not in ("", ".", "..")
)
FEW = settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


def odd_service(folder: Path, name: str, value: str) -> Service:
    """Profile, model and L3 below a folder of that name, a variable of that value."""
    below = folder / name
    below.mkdir()
    path = small_profile(below, name="p.yaml")
    text = path.read_text().replace(f"{below}/", "")
    path.write_text(text.replace("{device: cpu}", "{device: cpu, environment: {ODD: '${ODD}'}}"))
    os.environ["ODD"] = value
    try:
        text = json.dumps(f"n{name}".replace("${", "$${"))
        return service(path, f"model.served_name={text}")
    finally:
        del os.environ["ODD"]


@FEW
@given(name=NAMES, value=NAMES)
@example(name=WORST, value=WORST)
def test_systemd_reads_back_what_was_meant(name: str, value: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = odd_service(Path(folder), name, value)
        found = read_by_systemd(render("systemd", made))
    serve = as_shell_reads(found["Command Line"][1])
    assert serve == [made.program, *made.launch]
    assert f"ODD={value}" in found["Environment"]
    assert set(map(str, (p.path for p in made.places))) <= {
        line.removesuffix(" (origin-file)") for line in found["RequiresMountsFor"]
    }
    writable = " ".join(str(place.path) for place in made.places if place.writable)
    assert found["ReadWritePaths"] == [writable]


@FEW
@given(name=NAMES, value=NAMES)
@example(name=WORST, value=WORST)
def test_the_shell_reads_back_what_was_meant(name: str, value: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = odd_service(Path(folder), name, value)
        words, variables = run_script(render("slurm", made), Path(folder))
    assert words[2:4] == ["bash", "-c"]
    assert words[6:] == [made.program, *made.launch]
    assert variables["ODD"] == value


@FEW
@given(name=NAMES.filter(lambda name: ":" not in name), value=NAMES)
@example(name=WORST, value=WORST)
def test_kubernetes_reads_back_what_was_meant(name: str, value: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = odd_service(Path(folder), name, value)
        *_, stateful = yaml.safe_load_all(render("kubernetes", made))
        path = str(made.profile_path.parent)
    pod = stateful["spec"]["template"]["spec"]
    container = pod["containers"][0]
    variables = {each["name"]: each.get("value", "") for each in container["env"]}
    assert expand(variables["ODD"]) == value
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {f"{path}/pages", f"{path}/model"} <= mounted
    assert f"{path}/pages" in {v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v}


def expand(text: str) -> str:
    """As Kubernetes' third_party/forked/golang/expansion: `$$` is `$`, `$(NAME)` a variable."""
    out, at = "", 0
    while at < len(text):
        if text[at] == "$" and at + 1 < len(text):
            if text[at + 1] == "$":
                out += "$"
                at += 2
                continue
            assert text[at + 1] != "(", f"a variable is replaced in {text!r}"
        out += text[at]
        at += 1
    return out


def test_compose_reads_back_what_was_meant() -> None:
    """Once, with the worst: each reading takes a second."""
    with tempfile.TemporaryDirectory() as folder:
        made = odd_service(Path(folder), WORST, WORST)
        path = Path(folder, "c.yaml")
        path.write_text(render("docker-compose", made))
        command = [tool("docker-compose", "docker-compose"), "-f", str(path), "config"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    (container,) = yaml.safe_load(done.stdout)["services"].values()
    # `config` writes a file that can be read again: with every `$` doubled.
    words = [word.replace("$$", "$") for word in container["command"]]
    assert words[:-2] == ["kvtier", *made.launch]
    assert container["environment"]["ODD"].replace("$$", "$") == WORST
    sources = {volume["source"].replace("$$", "$") for volume in container["volumes"]}
    assert str(made.profile_path) in sources
    assert {str(place.path) for place in made.places} <= sources


def test_a_word_of_a_unit() -> None:
    assert quoted("plain/word-1") == "plain/word-1"
    assert quoted("100%") == "100%%"
    assert quoted('a "b"\\\n') == '"a \\"b\\"\\\\\\n"'
    assert quoted("") == '""'
