"""All checks for a profile, or those that need none."""

from __future__ import annotations

from kvtier_ops.doctor import CHECKS
from kvtier_ops.doctor.check import Context, Finding, run_checks
from kvtier_ops.doctor.plan_warnings import plan_findings
from kvtier_ops.errors import KvtierError
from kvtier_ops.prepare import prepare
from kvtier_ops.profile.load import ProfileFile


def examine(file: ProfileFile | None) -> list[Finding]:
    """Never raises for the state of host or model: that is what the findings are for."""
    if file is None:
        return list(run_checks(CHECKS, Context()))
    try:
        context = Context(file.profile, prepare(file))
    except KvtierError as error:
        context = Context(file.profile, refusal=error)
    return find(context)


def find(context: Context) -> list[Finding]:
    """All checks of a profile, and what its plan warns of."""
    return [*run_checks(CHECKS, context), *plan_findings(context)]
