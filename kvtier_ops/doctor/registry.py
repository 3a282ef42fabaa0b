"""The one table of checks: what the doctor makes, lists, selects and explains."""

from __future__ import annotations

from dataclasses import dataclass

from kvtier_ops.doctor.check import Check, Needs, Severity
from kvtier_ops.doctor.checks import (
    clock,
    cluster,
    container,
    cpu,
    disk,
    drives,
    environment,
    folders,
    gpu,
    hugepages,
    leftovers,
    limits,
    memory,
    model,
    numa,
    server,
    store,
)
from kvtier_ops.doctor.live.registry import LIVE_CHECKS
from kvtier_ops.doctor.plan_warnings import MISFITS, PLAN_GROUP, WARNINGS

_MODULES = (
    *(environment, gpu, memory, hugepages, limits, leftovers, numa, cpu),
    *(disk, drives, store, model, server, folders, cluster, clock, container),
)


def _sorted(checks: list[Check]) -> tuple[Check, ...]:
    """By group, in the order in which groups first come; within one, by id."""
    groups = list(dict.fromkeys(check.group for check in checks))
    return tuple(sorted(checks, key=lambda check: (groups.index(check.group), check.id)))


CHECKS = _sorted([check for module in _MODULES for check in module.CHECKS])


@dataclass(frozen=True)
class Entry:
    """One thing that has an id: a check, a warning of the plan, or a way in which a plan does
    not fit, which check KVT-D201 tells (`told_by`)."""

    id: str
    group: str
    what: str
    severity: Severity
    needs: Needs
    passes: str
    why: str
    told_by: str = ""


def _of_check(check: Check) -> Entry:
    return Entry(
        check.id, check.group, check.what, check.severity, check.needs, check.passes, check.why
    )


ENTRIES: tuple[Entry, ...] = (
    *map(_of_check, CHECKS),
    *(
        Entry(
            id,
            PLAN_GROUP,
            told.what,
            Severity.FAILURE if told.forbids_launch else Severity.WARNING,
            Needs.PLAN,
            told.passes,
            told.why,
        )
        for id, told in WARNINGS.items()
    ),
    *(
        Entry(
            id,
            PLAN_GROUP,
            told.what,
            Severity.FAILURE,
            Needs.PROFILE,
            told.passes,
            told.why,
            told_by=told.told_by,
        )
        for id, told in MISFITS.items()
    ),
)
ENTRIES = (
    *ENTRIES,
    *(
        Entry(
            check.id,
            check.group,
            check.what,
            check.severity,
            Needs.ENGINE,
            check.passes,
            check.why,
        )
        for check in LIVE_CHECKS
    ),
)
GROUPS = tuple(dict.fromkeys(entry.group for entry in ENTRIES))
