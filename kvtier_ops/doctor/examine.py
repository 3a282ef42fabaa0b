"""All checks for a profile, or those that need none."""

from __future__ import annotations

from kvtier_ops.doctor.check import Context, Finding, Needs, run_checks
from kvtier_ops.doctor.plan_warnings import plan_findings
from kvtier_ops.doctor.registry import CHECKS, ENTRIES
from kvtier_ops.doctor.select import ALL, Selection
from kvtier_ops.errors import BadInput, KvtierError
from kvtier_ops.host.gpus import nvml_held
from kvtier_ops.prepare import prepare
from kvtier_ops.profile.load import ProfileFile


def examine(file: ProfileFile | None, selection: Selection = ALL) -> list[Finding]:
    """Never raises for the state of host or model: that is what the findings are for.

    Raises BadInput if all that was selected needs a profile, and there is none, or a running
    engine.
    """
    _check_selection(selection, has_profile=file is not None)
    with nvml_held():
        return find(_context(file), selection)


def _context(file: ProfileFile | None) -> Context:
    if file is None:
        return Context()
    try:
        return Context(file.profile, prepare(file), path=file.path)
    except KvtierError as error:
        return Context(file.profile, refusal=error, path=file.path)


def _check_selection(selection: Selection, *, has_profile: bool) -> None:
    if selection.ids is None:
        return
    chosen = [entry for entry in ENTRIES if entry.id in selection.ids]
    if all(entry.needs is Needs.ENGINE for entry in chosen):
        raise BadInput(
            f"{chosen[0].id} looks at a running engine, and none is named"
            if len(chosen) == 1
            else "all of these checks look at a running engine, and none is named",
            "`kvtier doctor --live URL --only ...`",
        )
    if not has_profile and all(entry.needs is not Needs.NOTHING for entry in chosen):
        raise BadInput(
            f"{chosen[0].id} looks at what a profile asks for, and none is named"
            if len(chosen) == 1
            else "all of these checks look at what a profile asks for, and none is named",
            "`kvtier doctor PROFILE --only ...`",
        )


def find(context: Context, selection: Selection = ALL) -> list[Finding]:
    """All checks of a profile, and what its plan warns of."""
    made = list(run_checks((check for check in CHECKS if selection.has(check.id)), context))
    told = (each for each in plan_findings(context, made) if selection.has(each.id))
    return [*_why_no_plan(context, selection), *made, *told]


def _why_no_plan(context: Context, selection: Selection) -> list[Finding]:
    """Without a plan, most checks cannot be made: what is in its way is told even where `--only`
    names other checks."""
    if context.refusal is None:
        return []
    left_out = {"KVT-D201", "KVT-D204", "KVT-D401"} - selection.skipped
    checks = [each for each in CHECKS if each.id in left_out and not selection.has(each.id)]
    return [finding for finding in run_checks(checks, context) if not finding.ok]
