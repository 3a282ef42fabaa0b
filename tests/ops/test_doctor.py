"""Every check: once where it passes, once where it fails."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ops.builders import GIB, make_host
from ops.launched import write_profile

from kvtier_ops.doctor import CHECKS, Context, Finding, Severity, environment, run_checks
from kvtier_ops.doctor.examine import examine
from kvtier_ops.doctor.report import exit_code, render
from kvtier_ops.errors import ExitCode
from kvtier_ops.plan import make_plan
from kvtier_ops.prepare import Prepared, prepare
from kvtier_ops.profile.load import ProfileFile, load_profile


def load(home: Path, *overrides: str) -> ProfileFile:
    return load_profile(write_profile(home), overrides)


def of(findings: list[Finding], check: str) -> Finding:
    found = [finding for finding in findings if finding.id == check]
    assert found, f"{check} said nothing"
    return next((finding for finding in found if not finding.ok), found[0])


def look(check: str, context: Context) -> Finding:
    return of(list(run_checks(CHECKS, context)), check)


@pytest.fixture
def l3(home: Path) -> ProfileFile:
    (home / "pages").mkdir(mode=0o700)
    return load(home, f"tiers.l3.directories=[{home}/pages]", "tiers.l3.size=64MiB")


def test_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look("KVT-D101", Context()).ok
    monkeypatch.setattr(environment, "PYTHON_MIN", (4, 0))
    assert "4.0 or later" in look("KVT-D101", Context()).required


def test_native_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "NATIVE_MODULES", ("zlib",))
    assert look("KVT-D102", Context()).ok
    monkeypatch.setattr(environment, "NATIVE_MODULES", ("kvtier_no_such_module",))
    assert "No module named" in look("KVT-D102", Context()).current
    monkeypatch.setattr(environment, "NATIVE_MODULES", ("os; os.kill(os.getpid(), 4)",))
    assert look("KVT-D102", Context()).current == "was killed by signal 4"


def test_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "requires", lambda name: ["torch>=2.11,<2.14"])
    versions: dict[str, str] = {"torch": "2.13.0+cpu"}
    monkeypatch.setattr(environment, "version", lambda name: versions[name])
    assert look("KVT-D103", Context()).ok
    versions["torch"] = "2.10.0"
    assert not look("KVT-D103", Context()).ok

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(environment, "version", missing)
    assert look("KVT-D103", Context()).current == "not installed"


def test_plan_and_model(home: Path) -> None:
    findings = examine(load(home))
    assert of(findings, "KVT-D201").ok
    assert of(findings, "KVT-D401").ok
    assert exit_code(findings) in (ExitCode.OK, ExitCode.REFUSED)
    large = of(examine(load(home, "tiers.l2.size=900TiB")), "KVT-D201")
    assert not large.ok
    assert "the largest that fits" in large.fix
    (home / "model/tokenizer.json").unlink()
    assert "has no tokenizer" in of(examine(load_profile(home / "small.yaml")), "KVT-D401").current
    (home / "model/model.safetensors").unlink()
    assert "holds no weights" in of(examine(load_profile(home / "small.yaml")), "KVT-D401").current
    missing = of(examine(load(home, "model.path=nowhere")), "KVT-D401")
    assert "there is no model" in missing.current


def test_a_model_without_weights_can_be_planned_for_not_launched(home: Path) -> None:
    file = load(home)
    (home / "model/model.safetensors").unlink()
    assert "holds no weights" in of(examine(file), "KVT-D401").current
    alone = load(home, f"model.path={home}/model/config.json")
    assert "a configuration without weights" in of(examine(alone), "KVT-D401").current


def test_a_contradiction_is_not_the_models_fault(home: Path) -> None:
    assert of(examine(load(home)), "KVT-D204").ok
    findings = examine(load(home, "engine.tensor_parallel=3"))
    found = of(findings, "KVT-D204")
    assert not found.ok
    assert "3 ranks cannot share 2 kv heads" in found.current
    assert not [finding for finding in findings if finding.id == "KVT-D401"]
    large = of(examine(load(home, "tiers.l2.size=900TiB")), "KVT-D201")
    assert large.current.startswith("KVT-P203: `tiers.l2.size` asks for")


def test_warnings_of_the_plan_are_findings_of_the_same_id(home: Path) -> None:
    findings = examine(load(home, "tiers.l1.size=6MiB", "tiers.kv_dtype=float8"))
    harmless, forbidding = of(findings, "KVT-P001"), of(findings, "KVT-P104")
    assert (harmless.ok, harmless.severity) == (False, Severity.WARNING)
    assert harmless.what == "plan, `tiers.l2.size`"
    assert forbidding.severity is Severity.FAILURE
    assert exit_code(findings) == ExitCode.REFUSED
    text = render(findings, 80)
    assert "KVT-P104" in text
    assert "required: \n" not in text
    assert not [f for f in examine(load(home)) if f.id.startswith("KVT-P")]


def test_chat_template(home: Path) -> None:
    file = load(home)
    assert of(examine(file), "KVT-D402").ok
    (home / "model/tokenizer_config.json").write_text("{}")
    finding = of(examine(file), "KVT-D402")
    assert not finding.ok
    assert finding.severity is Severity.WARNING


@pytest.mark.parametrize(("limit", "ok"), [(8 * GIB, True), (GIB // 2, False)])
def test_cgroup(home: Path, limit: int, ok: bool) -> None:
    file = load(home)
    host = make_host(cgroup_limit_bytes=8 * GIB)
    model = prepare(file).model
    prepared = Prepared(host, model, make_plan(file.profile, host, model))
    tight = replace(prepared, host=make_host(cgroup_limit_bytes=limit))
    assert look("KVT-D202", Context(file.profile, tight)).ok is ok


@pytest.mark.parametrize(("word", "ok"), [("advise", True), ("never", False)])
def test_transparent_hugepages(home: Path, word: str, ok: bool) -> None:
    file = load(home, "tiers.l2.size=9GiB")
    host, model = make_host(memory_available_bytes=16 * GIB), prepare(load(home)).model
    path = home / "sys/kernel/mm/transparent_hugepage/shmem_enabled"
    path.parent.mkdir(parents=True)
    path.write_text(f"always [{word}] deny\n")
    prepared = Prepared(host, model, make_plan(file.profile, host, model))
    assert look("KVT-D203", Context(file.profile, prepared, root=home)).ok is ok


def test_directory_usable(home: Path, l3: ProfileFile) -> None:
    assert of(examine(l3), "KVT-D301").current == "can be written"
    new = load(home, f"tiers.l3.directories=[{home}/new/deep]", "tiers.l3.size=64MiB")
    assert of(examine(new), "KVT-D301").current == "can be made"
    file = load(home, f"tiers.l3.directories=[{home}/small.yaml/x]", "tiers.l3.size=64MiB")
    assert "is not a directory" in of(examine(file), "KVT-D301").current


def test_directory_may_not_be_written(l3: ProfileFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written by uid" in of(examine(l3), "KVT-D301").current


def test_directory_mode(home: Path, l3: ProfileFile) -> None:
    assert of(examine(l3), "KVT-D302").ok
    (home / "pages").chmod(0o755)
    finding = of(examine(l3), "KVT-D302")
    assert not finding.ok
    assert finding.fix == f"`chmod 700 {home}/pages`"


def test_directory_lock(home: Path, l3: ProfileFile) -> None:
    lock = home / "pages/lock"
    lock.write_text("pid 77 (kvtier)")
    assert of(examine(l3), "KVT-D303").ok
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert of(examine(l3), "KVT-D303").current == "in use by pid 77 (kvtier)"


def test_direct_io(l3: ProfileFile, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., int] = os.open

    def refuse(path: Path, flags: int, mode: int = 0o777, **more: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return real(path, flags, mode, **more)

    assert of(examine(l3), "KVT-D304").ok or sys.platform != "linux"
    monkeypatch.setattr(os, "open", refuse)
    assert "refuses it: Invalid argument" in of(examine(l3), "KVT-D304").current


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_port(home: Path, taken: int) -> None:
    assert of(examine(load(home)), "KVT-D501").ok
    finding = of(examine(load(home, f"server.port={taken}")), "KVT-D501")
    assert finding.current == "address already in use"
    assert f"sport = :{taken}" in finding.fix
    assert not of(examine(load(home, "server.host=no.such.host.invalid")), "KVT-D501").ok


def test_keys_can_be_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = load(home, "server.api_keys=[{name: a, env: A_KEY}]")
    finding = of(examine(file), "KVT-D502")
    assert finding.current == "the environment has no `A_KEY`"
    assert "server.api_keys` a" in finding.what
    monkeypatch.setenv("A_KEY", "a-key-of-somebody")
    finding = of(examine(file), "KVT-D502")
    assert finding.ok
    assert "a-key-of-somebody" not in str(finding)
    assert not of(examine(load(home, "server.admin_key.file=none")), "KVT-D502").ok
    assert not [each for each in examine(load(home)) if each.id == "KVT-D502"]


def test_without_a_profile_only_the_environment_is_checked() -> None:
    assert {finding.group for finding in examine(None)} == {"environment"}


def test_exit_codes_and_table() -> None:
    good = Finding("KVT-D1", "g", "what", Severity.FAILURE, True, "r", "c", "")
    warning = replace(good, ok=False, severity=Severity.WARNING, fix="mend it")
    failure = replace(warning, severity=Severity.FAILURE)
    assert exit_code([good]) == 0
    assert exit_code([good, warning]) == 4
    assert exit_code([warning, failure]) == 3
    text = render([good, warning, replace(failure, current="long " * 40)], 80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "3 checks: 1 failed, 1 with a warning" in text
    assert "mend it" in text


def test_ids_are_unique() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
