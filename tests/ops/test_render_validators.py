"""Artefacts before the tools that run them: systemd, docker compose, Kubernetes' schemas, Slurm."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from ops.rendered import SLURM_CONF, of_guide, read_by_systemd, render, service, small_profile, tool

from kvtier_ops.render import Service

KUBERNETES = ("1.27", "1.33")  # an old one and a new one
CASES = ("small", "production", "two-nodes", "keys", "cpu-nodes")
KEYS = """\
server:
  host: 0.0.0.0
  port: 443
  api_keys: [{name: a, env: KEY_A}, {name: b, file: %s/key}]
  request_trace: %s/trace/t.jsonl
"""


def case(name: str, folder: Path) -> Service:
    if name == "small":
        return service(small_profile(folder))
    if name == "keys":
        return service(small_profile(folder, KEYS.replace("%s", str(folder))))
    if name == "cpu-nodes":
        return of_guide("gpu-cpu", "host.cpu_nodes=[0, 1]", "host.memory_nodes=[0, 1]")
    return of_guide(name)


@pytest.mark.parametrize("name", CASES)
def test_systemd_takes_the_unit(name: str, tmp_path: Path) -> None:
    made = case(name, tmp_path)
    unit = tmp_path / f"{made.name}.service"
    unit.write_text(render("systemd", made))
    command = [tool("systemd-analyze", "systemd"), "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_verify_finds_what_is_wrong(tmp_path: Path) -> None:
    unit = tmp_path / "x.service"
    text = render("systemd", case("small", tmp_path))
    unit.write_text(text.replace("KillMode=mixed", "KillMode=mixt"))
    command = [tool("systemd-analyze", "systemd"), "verify", "--man=no", str(unit)]
    assert "mixt" in subprocess.run(command, capture_output=True, text=True).stderr


def test_the_unit_is_locked_down(tmp_path: Path) -> None:
    """systemd's own measure, from 0 (nothing is exposed) to 10."""
    unit = tmp_path / "x.service"
    unit.write_text(render("systemd", case("small", tmp_path)))
    command = [tool("systemd-analyze", "systemd"), "security", "--offline=true", "--no-pager"]
    done = subprocess.run([*command, "--threshold=21", str(unit)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_the_units_filter_lets_through_what_the_engine_calls() -> None:
    """io_uring, NUMA binding, memfd and pidfd are in the set of calls that the unit allows."""
    analyze = [tool("systemd-analyze", "systemd"), "syscall-filter", "--no-pager"]
    allowed: set[str] = set()
    sets = ["@system-service"]
    while sets:
        listed = subprocess.run([*analyze, sets.pop()], capture_output=True, text=True, check=True)
        names = [line.strip() for line in listed.stdout.splitlines()[1:] if "#" not in line]
        sets += [name for name in names if name.startswith("@")]
        allowed.update(names)
    needed = {
        *("io_uring_setup", "io_uring_enter", "io_uring_register", "memfd_create"),
        *("mbind", "set_mempolicy", "get_mempolicy", "sched_setaffinity", "pidfd_open"),
        *("mlock", "flock", "fallocate", "fadvise64", "preadv", "pwritev", "prlimit64"),
    }
    assert needed <= allowed


def test_what_systemd_understood(tmp_path: Path) -> None:
    made = case("keys", tmp_path)
    found = read_by_systemd(render("systemd", made))
    assert found["Type"] == ["notify"]
    assert found["User"] == ["kvtier"]
    assert found["LimitMEMLOCK"] == [str(made.limits.locked_bytes)]
    assert found["LimitNOFILE"] == [str(made.limits.open_files)]
    assert found["MemoryMax"] == [str(made.limits.memory_bytes)]
    assert found["ProtectSystem"] == ["strict"]
    assert found["KillMode"] == ["mixed"]
    assert found["EnvironmentFile"] == [f"/etc/kvtier/{made.name}.env"]
    assert "cap_net_bind_service" in found["AmbientCapabilities"][0].lower(), "port 443"
    # `+`: as root. `:` is no word of the command.
    assert len(found["Command Line"]) == 3
    commands = re.findall(r"^Exec\w+=(.*)$", render("systemd", made), re.MULTILINE)
    assert [line[: line.index("/")] for line in commands] == ["+:", ":", "+:"]
    before, serve, after = found["Command Line"]
    assert before.endswith(f"tune {made.profile_path}")
    assert " launch " in serve
    assert " tune --undo " in after
    assert after.endswith(".yaml")


@pytest.mark.parametrize("name", ["small", "two-nodes", "production"])
def test_compose_takes_the_file(name: str, tmp_path: Path) -> None:
    made = case(name, tmp_path)
    path = tmp_path / "compose.yaml"
    path.write_text(render("docker-compose", made))
    secrets = {secret: "x" for secret in made.secrets}
    done = subprocess.run(
        [tool("docker-compose", "docker-compose"), "-f", str(path), "config"],
        env={**os.environ, **secrets, "KVTIER_NODE_RANK": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (container,) = yaml.safe_load(done.stdout)["services"].values()
    assert container["command"][:3] == ["kvtier", "launch", str(made.profile_path)]


def test_compose_without_a_secret_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(render("docker-compose", case("keys", tmp_path)))
    command = [tool("docker-compose", "docker-compose"), "-f", str(path), "config"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "KEY_A" in done.stderr


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", CASES)
def test_kubernetes_schemas_take_the_manifests(name: str, version: str, tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(render("kubernetes", case(name, tmp_path))))
    assert [each["kind"] for each in documents] == [
        "ConfigMap",
        "Service",
        "Service",
        "StatefulSet",
    ]
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_find_what_is_wrong(tmp_path: Path) -> None:
    *_, stateful = yaml.safe_load_all(render("kubernetes", case("small", tmp_path)))
    stateful["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(stateful, KUBERNETES[-1], strict=True)


def _sbatch(script: Path, folder: Path) -> str:
    """What sbatch says: it reads options before it finds that there is no controller."""
    (folder / "slurm.conf").write_text(SLURM_CONF)
    done = subprocess.run(
        [tool("sbatch", "slurm-client"), "--test-only", str(script)],
        env={**os.environ, "SLURM_CONF": str(folder / "slurm.conf")},
        capture_output=True,
        text=True,
    )
    return done.stderr


@pytest.mark.parametrize("name", CASES)
def test_slurm_and_the_shell_take_the_script(name: str, tmp_path: Path) -> None:
    script = tmp_path / "x.sbatch"
    script.write_text(render("slurm", case(name, tmp_path)))
    subprocess.run(["bash", "-n", str(script)], check=True)
    checked = subprocess.run(
        [tool("shellcheck", "shellcheck"), str(script)], capture_output=True, text=True
    )
    assert checked.stdout == ""
    said = _sbatch(script, tmp_path)
    assert "Unable to contact slurm controller" in said
    assert "error" not in said.lower().replace("allocation failure", ""), said


def test_sbatch_finds_what_is_wrong(tmp_path: Path) -> None:
    script = tmp_path / "x.sbatch"
    text = render("slurm", case("small", tmp_path))
    for right, wrong in (("--nodes=", "--nodez="), ("M\n#SBATCH --out", "Q\n#SBATCH --out")):
        assert right in text
        script.write_text(text.replace(right, wrong))
        assert "Unable to contact" not in _sbatch(script, tmp_path)
