"""The plan's warnings as findings, under the ids that `kvtier plan` gives them."""

from __future__ import annotations

from collections.abc import Iterator

from kvtier_ops.doctor.check import Context, Finding, Severity


def plan_findings(context: Context) -> Iterator[Finding]:
    """None without a plan. What the plan says must not be launched is a failure."""
    if context.prepared is None:
        return
    for warning in context.prepared.plan.warnings:
        severity = Severity.FAILURE if warning.forbids_launch else Severity.WARNING
        subject = f"`{warning.field}`" if warning.field else "profile"
        yield Finding(
            id=warning.id,
            group="plan",
            what=f"plan, {subject}",
            severity=severity,
            ok=False,
            required="",
            current=warning.what,
            fix=warning.hint,
        )
