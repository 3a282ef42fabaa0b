"""The doctor's checks before a launch: what fails stops it, unless the operator forces it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvtier_ops.doctor import Context, Finding, Severity
from kvtier_ops.doctor.examine import find
from kvtier_ops.doctor.plan_warnings import PLAN_GROUP
from kvtier_ops.doctor.registry import ENTRIES
from kvtier_ops.errors import BadInput, ChecksFailed, Refused
from kvtier_ops.plan.engine_limits import ENGINE_LIMITS
from kvtier_ops.prepare import Prepared
from kvtier_ops.profile.load import ProfileFile


@dataclass(frozen=True)
class Preflight:
    """All findings, and what becomes of those that did not pass."""

    findings: tuple[Finding, ...]
    failed: tuple[Finding, ...]  # these stop the launch
    forced: tuple[Finding, ...]  # these would have
    warnings: tuple[Finding, ...]

    def notes(self, profile: Path) -> list[str]:
        """Warnings for the terminal: what is forced, and what the plan says; the doctor has more
        to say of the rest."""
        forced = [f"warning: forced: {_text(each)}" for each in self.forced]
        planned = [each for each in self.warnings if each.group == PLAN_GROUP]
        others = dict.fromkeys(each.id for each in self.warnings if each not in planned)
        notes = [*forced, *(f"warning: {_text(each)}" for each in planned)]
        if others:
            notes.append(
                f"warning: this host could serve it better: {', '.join(others)}\n"
                f"hint: `kvtier doctor {shlex.quote(str(profile))}` says how"
            )
        return notes

    def refuse(self, *, but: str = "") -> None:
        """Raises ChecksFailed with every check that failed and is not forced; `but`: the id of one
        that is told later."""
        failed = [each.problem() for each in self.failed if each.id != but]
        if failed:
            raise ChecksFailed(failed)


def _text(finding: Finding) -> str:
    problem = finding.problem()
    hint = f"\nhint: {problem.hint}" if problem.hint else ""
    return f"{problem.id}: {problem.what}{hint}"


def check_forced(ids: Sequence[str]) -> None:
    """Raises BadInput for an id that is no check, Refused for one that cannot be overridden."""
    known = {entry.id: entry for entry in ENTRIES}
    for id in ids:
        if id not in known:
            raise BadInput(
                f"`{id[:40]}` is no check", "`kvtier doctor --list` shows them all", place="--force"
            )
        if id.startswith(ENGINE_LIMITS):
            raise Refused(
                f"{id} cannot be forced: the engine has no way to do it",
                "`kvtier plan` says what to change instead",
                place="--force",
            )
        if known[id].told_by:
            raise Refused(
                f"{id} cannot be forced: without a plan that fits there are no sizes to start with",
                "make the profile smaller, as `kvtier plan` says",
                place="--force",
            )


def preflight(
    file: ProfileFile, prepared: Prepared, forced: Sequence[str], mended: Sequence[str] = ()
) -> Preflight:
    """Looks; changes nothing, and raises nothing for what it finds. `mended`: ids of what tuning
    sees to, or says that it could not."""
    findings = find(Context(file.profile, prepared, path=file.path))
    wrong = [each for each in findings if not each.ok and each.id not in mended]
    failures = [each for each in wrong if each.severity is Severity.FAILURE]
    return Preflight(
        findings=tuple(findings),
        failed=tuple(each for each in failures if each.id not in forced),
        forced=tuple(each for each in failures if each.id in forced),
        warnings=tuple(each for each in wrong if each.severity is Severity.WARNING),
    )
