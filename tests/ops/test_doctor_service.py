"""Checks of the model, the server, CPUs, the clock and containers: once passing, once failing."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.builders import make_host, write_safetensors
from ops.doctored import all_of, context_of, failing, gpu_host, load, look, of, planned, put
from support.mounted import mounted

from kvtier_ops.doctor import Context, Severity
from kvtier_ops.doctor.checks import clock
from kvtier_ops.doctor.checks import model as model_checks
from kvtier_ops.doctor.examine import examine
from kvtier_ops.host import DriveKind, probe
from kvtier_ops.plan.measured import disks_file
from kvtier_ops.profile.load import load_profile


def test_files_of_the_model(home: Path) -> None:
    assert of(examine(load(home)), "KVT-D401").ok
    (home / "model/tokenizer.json").unlink()
    assert "has no tokenizer" in of(examine(load_profile(home / "small.yaml")), "KVT-D401").current
    (home / "model/model.safetensors").unlink()
    assert "holds no weights" in of(examine(load_profile(home / "small.yaml")), "KVT-D401").current
    missing = of(examine(load(home, "model.path=nowhere")), "KVT-D401")
    assert not missing.ok
    assert "there is no model" in missing.current


def test_a_model_without_weights_can_be_planned_for_not_launched(home: Path) -> None:
    file = load(home)
    (home / "model/model.safetensors").unlink()
    without = of(examine(file), "KVT-D401")
    assert not without.ok
    assert "holds no weights" in without.current
    alone = load(home, f"model.path={home}/model/config.json")
    assert "a configuration without weights" in of(examine(alone), "KVT-D401").current


def test_chat_template(home: Path) -> None:
    file = load(home)
    assert of(examine(file), "KVT-D402").ok
    (home / "model/tokenizer_config.json").write_text("{}")
    finding = of(examine(file), "KVT-D402")
    assert not finding.ok
    assert finding.severity is Severity.WARNING


@pytest.fixture
def sharded(home: Path) -> Path:
    """The tiny model in two files with an index."""
    load(home)
    folder = home / "model"
    (folder / "model.safetensors").unlink()
    write_safetensors(folder / "one.safetensors", {"a": [20, 40]})
    write_safetensors(folder / "two.safetensors", {"b": [200]})
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_shards_of_the_index(home: Path, sharded: Path) -> None:
    file = load_profile(home / "small.yaml")
    assert of(examine(file), "KVT-D401").ok
    agreed = of(examine(file), "KVT-D403")
    assert (agreed.ok, agreed.current) == (True, "2 files of weights agree")
    write_safetensors(sharded / "two.safetensors", {"c": [200]})
    lost = of(examine(file), "KVT-D403")
    assert (lost.ok, lost.current) == (False, "`two.safetensors` has no tensor `b`")
    (sharded / "two.safetensors").unlink()
    found = of(examine(file), "KVT-D401")
    assert "lacks 1 of 2 files of weights: two.safetensors" in found.current


def test_a_file_of_weights_that_is_too_long_or_too_short(home: Path) -> None:
    file = load(home)
    weights = home / "model/model.safetensors"
    whole = weights.read_bytes()
    assert of(examine(file), "KVT-D403").ok
    weights.write_bytes(whole + b"more")
    assert of(examine(file), "KVT-D403").current == "`model.safetensors` is 4 bytes too long"
    weights.write_bytes(whole[:-4])
    assert "is cut off" in of(examine(file), "KVT-D401").current


def test_model_that_may_not_be_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = load(home)
    context = context_of(file, probe(), Path("/"))
    assert (look("KVT-D404", context).ok, look("KVT-D404", context).current) == (
        True,
        "4 can be read",
    )
    real = Path.open

    def refuse(path: Path, *arguments: object) -> object:
        if path.name == "tokenizer.json":
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    found = failing("KVT-D404", context)
    assert found.current == "`tokenizer.json`: permission denied"
    assert found.fix.startswith(f"`sudo find -L {home}/model -exec chmod a+rX {{}} +`")


def test_a_link_of_a_download_cache_that_leads_nowhere(home: Path) -> None:
    context = context_of(load(home), probe(), Path("/"))
    (home / "model/chat_template.jinja").symlink_to(home / "blobs/0123")
    assert "`chat_template.jinja`: no such file" in failing("KVT-D404", context).current


def test_disk_of_the_model(home: Path) -> None:
    context = planned(home)
    put(home, "proc/self/mountinfo", "22 1 0:21 / / rw - ext4 none rw\n")
    assert look("KVT-D405", context).ok
    put(home, "proc/self/mountinfo", "22 1 0:21 / / rw - nfs4 filer:/models rw\n")
    near = look("KVT-D405", context)
    assert near.ok, "it is small"
    assert near.current == "on nfs4 (network): under a second to read, at 1.00 GB/s " + (
        "(assumed of its kind)"
    )
    disks_file().parent.mkdir(parents=True)
    rate = {"read_bytes_per_s": 10.0, "write_bytes_per_s": 10.0, "when": "2026-05-01"}
    disks_file().write_text(json.dumps({"filer:/models /": rate}))
    slow = look("KVT-D405", context)
    assert not slow.ok
    assert "minutes to read, at 10 B/s (measured)" in slow.current
    assert f"cp -rL {home}/model DIR" in slow.fix


def test_what_mends_a_model_of_a_download_cache(home: Path) -> None:
    """Its folder holds links to blobs elsewhere: both commands go where they lead."""
    load(home)
    blobs, odd = home / "it's blobs", home / "it's a model"
    blobs.mkdir()
    (home / "model").rename(odd)
    (odd / "model.safetensors").rename(blobs / "0123")
    (odd / "model.safetensors").symlink_to("../it's blobs/0123")
    context = context_of(load(home, f"model.path={odd}"), probe(), Path("/"))
    assert look("KVT-D404", context).ok
    (blobs / "0123").chmod(0o600)
    for fix in ("find -L", "cp -rL"):
        command = _fix_with(fix, context).replace("sudo ", "").replace("DIR", f'"{home}/copy"')
        subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert (blobs / "0123").stat().st_mode & 0o777 == 0o644
    assert (home / "copy/model.safetensors").is_file()
    assert not (home / "copy/model.safetensors").is_symlink()


def _fix_with(word: str, context: Context) -> str:
    """What stands between backquotes, and has the word, of a check that must say it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_checks, "_unreadable", lambda path: "no")
        patch.setattr(model_checks, "_read_rate", lambda on: (1e-3, "measured"))
        patch.setattr(model_checks, "_SLOW_KINDS", tuple(DriveKind))
        fixes = [failing(check, context).fix for check in ("KVT-D404", "KVT-D405")]
    return next(part for fix in fixes for part in fix.split("`") if word in part)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_port(home: Path, taken: int) -> None:
    assert of(examine(load(home)), "KVT-D501").ok
    finding = failing("KVT-D501", Context(load(home, f"server.port={taken}").profile))
    assert finding.current == "address already in use"
    assert f"sport = :{taken}" in finding.fix
    for elsewhere in ("no.such.host.invalid", "192.0.2.1"):
        found = failing("KVT-D501", Context(load(home, f"server.host={elsewhere}").profile))
        assert "ip addr" in found.fix
        assert "ss -ltnp" not in found.fix, "nobody uses it"


def test_a_port_that_is_roots(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    found = failing("KVT-D501", Context(load(home, "server.port=443").profile))
    assert "ip_unprivileged_port_start=443" in found.fix
    assert "ss -ltnp" not in found.fix


def test_keys_can_be_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = load(home, "server.api_keys=[{name: a, env: A_KEY}]")
    finding = failing("KVT-D502", Context(file.profile))
    assert finding.current == "the environment has no `A_KEY`"
    assert "server.api_keys` a" in finding.what
    monkeypatch.setenv("A_KEY", "a-key-of-somebody")
    finding = of(examine(file), "KVT-D502")
    assert finding.ok
    assert "a-key-of-somebody" not in str(finding)
    assert not of(examine(load(home, "server.admin_key.file=none")), "KVT-D502").ok
    assert not [each for each in examine(load(home)) if each.id == "KVT-D502"]


def governed(home: Path, governor: str, driver: str = "acpi-cpufreq", prefers: str = "") -> None:
    for cpu in range(2):
        base = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        put(home, f"{base}/scaling_governor", governor + "\n")
        put(home, f"{base}/scaling_driver", driver + "\n")
        put(home, f"{base}/energy_performance_preference", prefers + "\n")


@pytest.mark.parametrize(
    ("governor", "driver", "prefers", "ok"),
    [
        ("performance", "acpi-cpufreq", "", True),
        ("schedutil", "acpi-cpufreq", "", True),
        ("powersave", "acpi-cpufreq", "", False),
        ("powersave", "intel_pstate", "balance_performance", True),
        ("powersave", "intel_pstate", "power", False),
        ("powersave", "intel_cpufreq", "", False),
    ],
)
def test_governor(home: Path, governor: str, driver: str, prefers: str, ok: bool) -> None:
    governed(home, governor, driver, prefers)
    found = look("KVT-D601", planned(home))
    assert found.ok is ok
    assert "4 threads compute" in found.reason
    if not ok:
        file = "energy_performance_preference" if prefers else "scaling_governor"
        assert f"tee /sys/devices/system/cpu/cpu*/cpufreq/{file}" in found.fix


def test_governor_that_only_the_host_knows(home: Path) -> None:
    assert not all_of("KVT-D601", planned(home))


def test_cpus_of_the_nodes_named(home: Path) -> None:
    context = planned(home, "host.cpu_nodes=[1]", host=gpu_host(1, 2))
    put(home, "proc/self/status", "Cpus_allowed_list:\t0-3\n")
    assert look("KVT-D602", context).ok
    put(home, "proc/self/status", "Cpus_allowed_list:\t0-1\n")
    found = failing("KVT-D602", context)
    assert found.current == "0 of their 2 may be used here"
    assert "taskset" in found.fix
    put(home, "run/.containerenv", "")
    assert "--cpuset-cpus 2,3" in look("KVT-D602", context).fix


def test_cpus_of_the_container(home: Path) -> None:
    put(home, "proc/self/cgroup", "0::/kubepods/pod1\n")
    assert look("KVT-D603", planned(home, host=gpu_host())).ok
    tight = planned(home, host=gpu_host(cpu_quota=2.5))
    found = look("KVT-D603", tight)
    assert not found.ok
    assert (found.required, found.current) == ("3 CPUs", "16, a quota of 2.5 by the cgroup")
    assert "`--cpus 3`" in found.fix
    assert "resources.limits.cpu: 3" in found.fix


def test_threads_that_are_too_many_are_one_finding(home: Path) -> None:
    assert look("KVT-D603", planned(home)).ok
    many = planned(home, "engine.threads=64")
    assert many.plan is not None
    assert "KVT-P004" in {warning.id for warning in many.plan.warnings}
    assert not all_of("KVT-D603", many)


def test_clock(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "is_synchronised", lambda: True)
    assert look("KVT-D801", Context()).ok
    monkeypatch.setattr(clock, "is_synchronised", lambda: False)
    limited = load(home, "tiers.l3.write_bytes_per_day=5TB").profile
    found = look("KVT-D801", Context(limited))
    assert not found.ok
    assert found.reason == "`tiers.l3.write_bytes_per_day` counts by it"
    monkeypatch.setattr(clock, "is_synchronised", lambda: None)
    assert not all_of("KVT-D801", Context())


def test_the_kernel_is_asked_for_the_clock() -> None:
    """`timedatectl`'s own source; a Linux always answers."""
    assert clock.is_synchronised() in (True, False)


def test_date(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look("KVT-D802", Context()).ok
    monkeypatch.setattr(time, "time", lambda: 12 * 3600.0)
    assert failing("KVT-D802", Context()).current == "1970-01-01 12:00 UTC"


def test_state_folder_in_a_container(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = planned(home)
    assert not all_of("KVT-D901", context), "outside of containers it stays"
    put(home, "run/.containerenv", "")
    put(home, "proc/self/mountinfo", "22 1 0:21 / / rw - ext4 none rw\n")
    assert look("KVT-D901", context).ok
    put(home, "proc/self/mountinfo", "22 1 0:21 / / rw - overlay overlay rw,upperdir=/nowhere\n")
    found = look("KVT-D901", context)
    assert not found.ok
    assert f"-v kvtier-state:{home}/state/kvtier" in found.fix


@pytest.mark.parametrize(
    ("file", "text", "container"),
    [
        ("etc/hostname", "", False),
        (".dockerenv", "", True),
        ("run/.containerenv", "", True),
        ("proc/self/cgroup", "0::/user.slice/user-0.slice\n", False),
        ("proc/self/cgroup", "0::/system.slice/docker-1234.scope\n", True),
        ("proc/self/cgroup", "12:memory:/kubepods/burstable/pod1\n", True),
        ("proc/self/mountinfo", "22 1 0:21 / /sys rw - sysfs sysfs rw\n", False),
        ("proc/self/mountinfo", "22 1 0:21 / /sys ro - sysfs sysfs ro\n", True),
    ],
)
def test_what_a_container_looks_like(home: Path, file: str, text: str, container: bool) -> None:
    from kvtier_ops.doctor.place import in_container

    put(home, file, text)
    assert in_container(home / "root") is container


def test_a_real_state_folder_in_memory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted("tmpfs", "size=8m", home / "layer") as place:
        monkeypatch.setenv("XDG_STATE_HOME", str(place))
        monkeypatch.setattr(
            "kvtier_ops.doctor.checks.container.in_container", lambda root: root == Path("/")
        )
        found = look("KVT-D901", context_of(load(home), make_host(), Path("/")))
    assert not found.ok
    assert "on tmpfs (memory)" in found.current
