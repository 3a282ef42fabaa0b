"""What the doctor's tests share: contexts of hosts that are not there, and findings by id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ops.builders import GIB, make_host
from ops.launched import write_profile

from kvtier_ops.doctor import CHECKS, Context, Finding, run_checks
from kvtier_ops.host import Gpu, Host, NumaNode
from kvtier_ops.model.facts import read_model
from kvtier_ops.plan import make_plan
from kvtier_ops.prepare import Prepared
from kvtier_ops.profile.load import ProfileFile, load_profile


def load(home: Path, *overrides: str) -> ProfileFile:
    return load_profile(write_profile(home), overrides)


def of(findings: list[Finding], check: str) -> Finding:
    """The first that did not pass, else the first; fails if the check said nothing."""
    found = [finding for finding in findings if finding.id == check]
    assert found, f"{check} said nothing"
    return next((finding for finding in found if not finding.ok), found[0])


def look(check: str, context: Context) -> Finding:
    return of(all_of(check, context), check)


def failing(check: str, context: Context) -> Finding:
    """As `look`, of a check that must not pass."""
    found = look(check, context)
    assert not found.ok, found
    assert found.fix, found
    return found


def all_of(check: str, context: Context) -> list[Finding]:
    """Whatever the check says, which must not break."""
    findings = list(run_checks([each for each in CHECKS if each.id == check], context))
    assert not [each for each in findings if each.broke], findings
    return findings


def planned(home: Path, *overrides: str, **host: Any) -> Context:
    """A plan for a host as `make_host` makes it, whose /proc and /sys are below home/root."""
    file = load(home, *overrides)
    (home / "root").mkdir(exist_ok=True)
    made = host.pop("host", None) or make_host(**host)
    return context_of(file, made, home / "root")


def context_of(file: ProfileFile, host: Host, root: Path) -> Context:
    profile = file.profile
    model = read_model(Path(profile.model.path), profile.model.dtype, profile.tiers.kv_dtype)
    prepared = Prepared(host, model, make_plan(profile, host, model))
    return Context(profile, prepared, root=root, path=file.path)


def on_host(context: Context, **changes: Any) -> Context:
    """The same plan, and a host that has changed since."""
    assert context.prepared is not None
    host = replace(context.prepared.host, **changes)
    return replace(context, prepared=replace(context.prepared, host=host))


def gpu_host(gpus: int = 1, nodes: int = 1, **changes: Any) -> Host:
    """GPUs of 80 GiB, spread over NUMA nodes of 64 GiB."""
    cards = tuple(Gpu("H100", 80 * GIB, 80 * GIB, numa_node=i * nodes // gpus) for i in range(gpus))
    places = tuple(NumaNode(i, 64 * GIB, 60 * GIB, cpus=(2 * i, 2 * i + 1)) for i in range(nodes))
    values: dict[str, Any] = {
        "memory_total_bytes": nodes * 64 * GIB,
        "memory_available_bytes": nodes * 60 * GIB,
        "cpus": 16,
    }
    return make_host(**{**values, "gpus": cards, "numa_nodes": places, **changes})


def put(home: Path, name: str, text: str) -> None:
    """A file below the root of the fake host."""
    path = home / "root" / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def limits(home: Path, name: str, soft: str) -> None:
    """Of this process, on the fake host."""
    put(
        home,
        "proc/self/limits",
        f"Limit  Soft Limit  Hard Limit  Units\n{name:<26}{soft:<21}{soft}\n",
    )
