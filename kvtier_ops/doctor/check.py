"""A check as data: what it looks at, what it requires and why, what it found, what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from kvtier_ops.errors import KvtierError, Problem
from kvtier_ops.prepare import Prepared
from kvtier_ops.profile.schema import Profile


class Severity(StrEnum):
    FAILURE = "failure"  # the engine would not start, or not as the profile says
    WARNING = "warning"  # it would run, worse than it could


@dataclass(frozen=True)
class Context:
    """What checks look at. `profile` is None without a profile; `prepared` also when no plan
    could be made, and then `refusal` says why."""

    profile: Profile | None = None
    prepared: Prepared | None = None
    refusal: KvtierError | None = None
    root: Path = Path("/")


@dataclass(frozen=True)
class Outcome:
    """What one check found about one thing. `fix` is a command or a change to the profile."""

    ok: bool
    required: str
    current: str
    fix: str = ""
    subject: str = ""  # which of several, such as a directory


@dataclass(frozen=True)
class Check:
    """`look` yields nothing where the check does not apply."""

    id: str
    group: str
    what: str
    severity: Severity
    look: Callable[[Context], Iterable[Outcome]]


@dataclass(frozen=True)
class Finding:
    """A check's outcome, complete for table and JSON."""

    id: str
    group: str
    what: str
    severity: Severity
    ok: bool
    required: str
    current: str
    fix: str

    def problem(self) -> Problem:
        """For launch, which stops with the check's own text."""
        required = f"; required: {self.required}" if self.required else ""
        return Problem(f"{self.what}: {self.current}{required}", self.fix, id=self.id)


def run_checks(checks: Iterable[Check], context: Context) -> Iterator[Finding]:
    """All findings, in order. A check never raises for what the host is like."""
    for check in checks:
        for outcome in check.look(context):
            what = f"{check.what} {outcome.subject}".strip()
            yield Finding(
                id=check.id,
                group=check.group,
                what=what,
                severity=check.severity,
                ok=outcome.ok,
                required=outcome.required,
                current=outcome.current,
                fix="" if outcome.ok else outcome.fix,
            )
