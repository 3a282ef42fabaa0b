"""Findings as text and as JSON, and the exit code they amount to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kvtier_ops.doctor.check import Finding, Severity
from kvtier_ops.errors import ExitCode
from kvtier_ops.text import report_width, wrapped


def exit_code(findings: Sequence[Finding]) -> ExitCode:
    """3: a failure, 4: warnings only, 0: all is well."""
    failed = {finding.severity for finding in findings if not finding.ok}
    if Severity.FAILURE in failed:
        return ExitCode.REFUSED
    return ExitCode.WARNINGS if failed else ExitCode.OK


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [asdict(finding) for finding in findings]


def render(findings: Sequence[Finding], width: int) -> str:
    """A line for each check; below those that did not pass, what is required and the fix."""
    width = report_width(width)
    lines: list[str] = []
    for finding in findings:
        lines += wrapped(f"{_mark(finding):<8}{finding.id}  ", _headline(finding), width)
        if not finding.ok:
            if finding.required:
                lines += wrapped(" " * 10 + "required: ", finding.required, width)
            lines += wrapped(" " * 10 + "fix:      ", finding.fix, width)
    failures = sum(not f.ok and f.severity is Severity.FAILURE for f in findings)
    warnings = sum(not f.ok and f.severity is Severity.WARNING for f in findings)
    lines += ["", f"{len(findings)} checks: {failures} failed, {warnings} with a warning"]
    return "\n".join(lines)


def _mark(finding: Finding) -> str:
    if finding.ok:
        return "ok"
    return "FAILED" if finding.severity is Severity.FAILURE else "warning"


def _headline(finding: Finding) -> str:
    return f"{finding.what}: {finding.current}"
