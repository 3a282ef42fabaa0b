"""What a launch serves: a profile as it was read, its plan, and what the engine is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvtier_engine.config import EngineConfig
from kvtier_ops.doctor import Finding
from kvtier_ops.doctor.plan_warnings import PLAN_GROUP
from kvtier_ops.errors import KvtierError, Refused
from kvtier_ops.host import probe
from kvtier_ops.host.before import host_before
from kvtier_ops.instance import state_dir_of
from kvtier_ops.launch.host_tuning import Tuning
from kvtier_ops.launch.preflight import Preflight, preflight
from kvtier_ops.launch.record import refuse_collisions
from kvtier_ops.plan import Plan
from kvtier_ops.prepare import Instead, Prepared, prepare
from kvtier_ops.profile.diff import differences
from kvtier_ops.profile.load import ProfileFile, load_profile
from kvtier_ops.profile.schema import Profile


@dataclass(frozen=True)
class Served:
    """`port`: where the engine came to listen, so that a restart keeps the address; 0: not yet."""

    file: ProfileFile
    prepared: Prepared
    overrides: tuple[str, ...] = ()
    port: int = 0

    @property
    def plan(self) -> Plan:
        return self.prepared.plan

    @property
    def profile(self) -> Profile:
        return self.file.profile

    def config(self, run_dir: Path, arena_fd: int | None = None) -> EngineConfig:
        config = self.plan.engine_config(run_dir, arena_fd, state_dir_of(self.file.path))
        if not self.port:
            return config
        server = config.server.model_copy(update={"port": self.port})
        return config.model_copy(update={"server": server})


def read_again(
    served: Served,
    name: str,
    forced: tuple[str, ...],
    tuning: Tuning,
    say: Callable[[str], None],
) -> Served:
    """The profile as it is now, planned and checked; nothing is changed. Raises KvtierError.

    It is planned for the memory that there was when the launch began: what is missing since is
    with the running engine, which gives it back. `say`: for what the changes are warned of.
    """
    file = load_profile(served.file.path, served.overrides)
    try:
        _refuse_other_nodes(served, file)
        now = probe(directories=file.profile.tiers.l3.directories)
        prepared = prepare(file, Instead(host=host_before(served.prepared.host, now)))
        refuse_collisions(prepared.plan, name)
        found = preflight(file, prepared, forced, tuning.mends(prepared.plan))
        found.refuse()
        if differences(served.file, file):
            mended = tuning.mends(served.plan)
            before = preflight(served.file, served.prepared, forced, mended)
            for note in _since(found, before).notes(file.path):
                say(note)
    except KvtierError as error:
        error.locate(file.place_of)
        raise
    same_port = file.profile.server.port == served.profile.server.port
    return Served(file, prepared, served.overrides, served.port if same_port else 0)


def _since(found: Preflight, before: Preflight) -> Preflight:
    """What the profile as it was is not warned of on the host as it is now."""
    known = {_key(each) for each in (*before.warnings, *before.forced)}
    return replace(
        found,
        forced=tuple(each for each in found.forced if _key(each) not in known),
        warnings=tuple(each for each in found.warnings if _key(each) not in known),
    )


def _key(finding: Finding) -> tuple[str, ...]:
    """The plan's warnings differ in their words alone; what a check measured is never the same."""
    words = finding.current if finding.group == PLAN_GROUP else ""
    return finding.id, finding.what, words


def _refuse_other_nodes(served: Served, file: ProfileFile) -> None:
    """By what the profile says: of the CPUs this process sees those alone that it was bound to."""
    for name in ("cpu_nodes", "memory_nodes"):
        if getattr(served.profile.host, name) != getattr(file.profile.host, name):
            raise Refused(
                "a running launcher cannot change its NUMA nodes",
                "`kvtier stop`, then `kvtier launch`",
                field=f"host.{name}",
            )


@dataclass(frozen=True)
class Change:
    """What the engine must be told of a new profile. `sizes`: tier -> bytes, where telling the
    running engine is enough; None: it has to be started again, for `fields`."""

    fields: tuple[str, ...]
    sizes: dict[str, int] | None

    @property
    def is_none(self) -> bool:
        return not self.fields


def change_between(old: Served, new: Served) -> Change:
    """By what the engine is told, not by what the profile says: `50%` may come to the same."""
    run_dir = Path("/")
    before, after = (
        dict(_flat(each.config(run_dir).model_dump(mode="json"))) for each in (old, new)
    )
    fields = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    environments = [each.profile.engine.environment for each in (old, new)]
    if environments[0] != environments[1]:
        fields.append("environment")
    if old.plan.profile.tiers.l2.hugepages != new.plan.profile.tiers.l2.hugepages:
        fields.append("hugepages")
    sizes: dict[str, int] = {}
    for name in fields:
        tier = _resized_tier(name)
        if tier is None or not before.get(name) or not after.get(name):
            return Change(tuple(fields), None)
        sizes[tier] = {"l1": new.plan.l1, "l2": new.plan.l2, "l3": new.plan.l3}[tier].bytes
    return Change(tuple(fields), sizes)


def _resized_tier(name: str) -> str | None:
    """`cache.l2.pages` -> `l2`; None for what cannot change while the engine runs."""
    if name in ("cache.l1.pages", "cache.l2.pages"):
        return name.split(".")[1]
    is_l3 = name.startswith("cache.l3.directories.") and name.endswith(".capacity_bytes")
    return "l3" if is_l3 else None


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield name, value
        return
    for key, item in items:
        yield from _flat(item, f"{name}.{key}" if name else str(key))
