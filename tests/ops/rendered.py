"""Services for the tests of `kvtier render`, and how the tools that run artefacts read them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ops.builders import make_host, make_model

from kvtier_ops.host import Host
from kvtier_ops.host.directories import with_directories
from kvtier_ops.host.record import load_host
from kvtier_ops.prepare import Instead, prepare_at
from kvtier_ops.profile.load import load_profile
from kvtier_ops.render import FORMATS, Options, Service, service_of

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data"
NOBODY = 65534

# A Slurm without a controller: sbatch reads the script, and then finds nobody to ask.
SLURM_CONF = """\
ClusterName=test
SlurmctldHost=localhost
AuthType=auth/none
GresTypes=gpu
NodeName=n[1-64] CPUs=1024
PartitionName=p Nodes=ALL Default=YES
MessageTimeout=1
SlurmctldTimeout=1
"""


def tool(name: str, package: str) -> str:
    """Where `name` is; the test is skipped where it is not. CI installs it."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"needs {name}: apt-get install {package}")
    return found


def service(
    path: Path, *overrides: str, host: Host | None = None, model: str = "", **options: Any
) -> Service:
    """Of the profile at `path`, on a host that is made up unless one is given."""
    file = load_profile(path, overrides)
    directories = file.profile.tiers.l3.directories
    found = host or make_host(disks=directories)
    prepared = prepare_at(
        file, Instead(with_directories(found, directories) if host else found, model)
    )
    command = ("kvtier", "render", "X", str(path))
    return service_of(file, prepared, Options(command, overrides=overrides, **options))


def of_guide(name: str, *overrides: str, **options: Any) -> Service:
    """One of profiles/, on the recorded server, for a model of which there is the config alone."""
    host = load_host(DATA / "hosts/server.json")
    model = str(DATA / "models/qwen3-235b-a22b.json")
    return service(
        ROOT / "profiles" / f"{name}.yaml", *overrides, host=host, model=model, **options
    )


def small_profile(folder: Path, text: str = "", name: str = "small.yaml") -> Path:
    """A tiny model with all three tiers; `text`: further sections."""
    model = make_model(folder / "model")
    path = folder / name
    path.write_text(
        f"version: 1\nmodel: {{path: {model}}}\nengine: {{device: cpu}}\n"
        "tiers:\n  l1: {size: 4MiB}\n  l2: {size: 8MiB}\n"
        f"  l3: {{directories: [{folder}/pages], size: 1GiB}}\n{text}"
    )
    return path


def render(kind: str, made: Service) -> str:
    return FORMATS[kind].render(made)


def read_by_systemd(unit: str) -> dict[str, list[str]]:
    """What systemd itself makes of a unit: it loads it in its test mode and prints all settings."""
    systemd = "/lib/systemd/systemd"
    if not Path(systemd).exists():
        pytest.skip("needs systemd: apt-get install systemd")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        units = Path(folder, "units")
        units.mkdir()
        (units / "x.service").write_text(unit)
        (Path(folder) / "home").mkdir()
        for path in (Path(folder), units, units / "x.service", Path(folder) / "home"):
            path.chmod(0o755)
        as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        done = subprocess.run(
            [
                *(as_nobody if os.geteuid() == 0 else []),
                *(systemd, "--test", "--system", "--no-pager", "--unit=x.service"),
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": f"{folder}/home",
                "SYSTEMD_UNIT_PATH": f"{units}:",
            },
            capture_output=True,
            text=True,
        )
    found: dict[str, list[str]] = {}
    lines = iter(done.stdout.splitlines())
    for line in lines:
        if line.strip() == "-> Unit x.service:":
            break
    for line in lines:
        if line.startswith("\t-> Unit "):
            break
        name, _, value = line.strip().partition(": ")
        found.setdefault(name.removeprefix("-> "), []).append(value)
    assert found, done.stdout[-2000:] + done.stderr
    return found


def as_shell_reads(text: str) -> list[str]:
    """The words of a line in the shell's quotes."""
    script = f'printf "%s\\0" {text}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def run_script(script: str, folder: Path, **environment: str) -> tuple[list[str], dict[str, str]]:
    """A batch script as Slurm would run it: what srun was told, and the variables it had."""
    binaries = folder / "bin"
    binaries.mkdir(exist_ok=True)
    told = folder / "told"
    shown = shlex.quote(str(told))
    stub = f'#!/bin/bash\nprintf "%s\\0" "$@" > {shown}\nenv -0 >> {shown}.env\n'
    (binaries / "srun").write_text(stub)
    (binaries / "scontrol").write_text("#!/bin/bash\necho first-node; echo second-node\n")
    for path in binaries.iterdir():
        path.chmod(0o755)
    Path(f"{told}.env").unlink(missing_ok=True)
    batch = folder / "x.sbatch"
    batch.write_text(script)
    known = {"PATH": f"{binaries}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "2", **environment}
    subprocess.run(["bash", str(batch)], env=known, check=True, capture_output=True)
    pairs = Path(f"{told}.env").read_bytes().decode().split("\0")[:-1]
    return told.read_bytes().decode().split("\0")[:-1], dict(p.split("=", 1) for p in pairs)
