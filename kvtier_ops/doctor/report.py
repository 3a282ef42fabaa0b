"""Findings as text and as JSON, and the exit code they amount to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from kvtier_ops.doctor.check import Finding, Needs, Result, Severity
from kvtier_ops.doctor.registry import ENTRIES, GROUPS, Entry
from kvtier_ops.doctor.select import named
from kvtier_ops.errors import ExitCode
from kvtier_ops.text import printable, report_width, wrapped

JSON_VERSION = 1
_MARKS = {
    Result.OK: "ok",
    Result.WARNING: "warning",
    Result.FAILURE: "FAILED",
    Result.ERROR: "BROKEN",
}
_HANG = 20  # where what a finding says begins
_COUNTED = ((Result.FAILURE, "failed"), (Result.WARNING, "warned"), (Result.ERROR, "broke"))


def exit_code(findings: Iterable[Finding], *, strict: bool = False) -> ExitCode:
    """1: a check itself failed, else 3: a failure, 4: warnings only, 0: all is well. `strict`:
    warnings are failures."""
    results = {finding.result for finding in findings}
    if Result.ERROR in results:
        return ExitCode.BUG
    if Result.FAILURE in results or (strict and Result.WARNING in results):
        return ExitCode.REFUSED
    return ExitCode.WARNINGS if Result.WARNING in results else ExitCode.OK


def as_json(
    findings: Sequence[Finding], *, strict: bool = False, profile: str | None = None
) -> dict[str, Any]:
    """As `json_schema` says; fields are added within a version, never taken away."""
    counts = Counter(finding.result for finding in findings)
    return {
        "version": JSON_VERSION,
        "profile": profile,
        "findings": [_finding_as_json(finding) for finding in findings],
        "summary": {
            "checks": len(findings),
            "ok": counts[Result.OK],
            "warnings": counts[Result.WARNING],
            "failures": counts[Result.FAILURE],
            "errors": counts[Result.ERROR],
            "strict": strict,
            "exit_code": int(exit_code(findings, strict=strict)),
        },
    }


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    fields = asdict(finding)
    del fields["broke"]
    return {**fields, "result": finding.result.value}


def json_schema() -> dict[str, Any]:
    """JSON Schema of `kvtier doctor --json`."""
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    finding = {
        "id": {"type": "string", "pattern": "^KVT-[A-Z][0-9]{3}$"},
        "group": text,
        "what": text,
        "severity": {"enum": [each.value for each in Severity]},
        "result": {"enum": [each.value for each in Result]},
        "ok": {"type": "boolean"},
        "required": text,
        "reason": text,
        "current": text,
        "fix": text,
    }
    summary = {
        **{name: count for name in ("checks", "ok", "warnings", "failures", "errors")},
        "strict": {"type": "boolean"},
        "exit_code": {"enum": [0, 1, 3, 4]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kvtier doctor",
        **_object(
            {
                "version": {"const": JSON_VERSION},
                "profile": {"type": ["string", "null"]},
                "findings": {"type": "array", "items": _object(finding)},
                "summary": _object(summary),
            }
        ),
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": sorted(properties), "properties": properties}


def render(findings: Sequence[Finding], width: int, *, strict: bool = False) -> str:
    """A heading for each group, a line for each check; below those that did not pass, what is
    required, why, and the fix."""
    width = report_width(width)
    lines: list[str] = []
    for group in _groups(findings):
        lines += [group]
        for finding in findings:
            if finding.group == group:
                lines += _lines(finding, width)
        lines.append("")
    return "\n".join([*lines, _summary(findings, strict)])


def _groups(findings: Sequence[Finding]) -> Iterator[str]:
    """In the registry's order; others after it."""
    there = dict.fromkeys(finding.group for finding in findings)
    yield from (group for group in GROUPS if group in there)
    yield from (group for group in there if group not in GROUPS)


def _lines(finding: Finding, width: int) -> Iterator[str]:
    prefix = f"  {_MARKS[finding.result]:<8}{finding.id}  "
    yield from wrapped(prefix, printable(f"{finding.what}: {finding.current}"), width, _HANG)
    if not finding.ok:
        for title, text in (("required", finding.required_because), ("fix", finding.fix)):
            if text:
                start = " " * 10 + f"{title + ':':<{_HANG - 10}}"
                yield from wrapped(start, printable(text), width)


def _summary(findings: Sequence[Finding], strict: bool) -> str:
    if not findings:
        return "nothing of this applies here"
    counts = Counter(finding.result for finding in findings)
    parts = [f"{counts[result]} {word}" for result, word in _COUNTED if counts[result]]
    plural = "s" * (len(findings) != 1)
    text = f"{len(findings)} check{plural}: {', '.join(parts) or 'all passed'}"
    return text + ("; warnings count as failures" if strict and counts[Result.WARNING] else "")


def render_list(width: int) -> str:
    """All that has an id: severity, when it passes, and what it needs."""
    width = report_width(width)
    lines: list[str] = []
    for group in GROUPS:
        lines += [group]
        for entry in ENTRIES:
            if entry.group == group:
                prefix = f"  {entry.id}  {entry.severity.value:<8}  "
                lines += wrapped(prefix, f"{entry.passes}{_needs(entry)}", width)
        lines.append("")
    return "\n".join(lines).rstrip("\n")


def entries_as_json(name: str | None = None) -> dict[str, Any]:
    """All that has an id, or what bears the name. `needs` in one word. Raises BadInput."""
    entries = ENTRIES if name is None else named(name, "--explain")
    checks = [{**asdict(entry), "needs": entry.needs.name.lower()} for entry in entries]
    return {"version": JSON_VERSION, "checks": checks}


def _needs(entry: Entry) -> str:
    return "" if entry.needs is Needs.NOTHING else f" (needs {needs_words(entry.needs)})"


def needs_words(needs: Needs) -> str:
    """As text says it: `a plan`."""
    return {
        Needs.NOTHING: "nothing",
        Needs.PROFILE: "a profile",
        Needs.PLAN: "a plan",
        Needs.ENGINE: "a running engine",
        Needs.NODES: "several nodes",
    }[needs]


def render_explanation(name: str, width: int) -> str:
    """A paragraph for each entry of that name. Raises BadInput."""
    width = report_width(width)
    parts = []
    for entry in named(name, "--explain"):
        told = f", told by {entry.told_by}" if entry.told_by else ""
        head = [
            f"{entry.id}  {entry.what}",
            f"  {entry.group}, {entry.severity.value}, needs {needs_words(entry.needs)}{told}",
            *wrapped("  passes when ", entry.passes, width, 2),
        ]
        parts.append("\n".join([*head, "", *wrapped("  ", entry.why, width)]))
    return "\n\n".join(parts)
