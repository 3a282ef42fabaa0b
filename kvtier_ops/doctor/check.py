"""A check as data: what it looks at, what it requires and why, what it found, what mends it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

from kvtier_ops.errors import KvtierError, Problem
from kvtier_ops.host import Host, probe
from kvtier_ops.host.mounts import MountTable
from kvtier_ops.instances import Instance, serving
from kvtier_ops.interrupt import raise_if_stopped
from kvtier_ops.plan import Plan
from kvtier_ops.prepare import Prepared
from kvtier_ops.profile.schema import Profile


class Severity(StrEnum):
    FAILURE = "failure"  # the engine would not start, or not as the profile says
    WARNING = "warning"  # it would run, worse than it could


class Result(StrEnum):
    """What became of a check, for table and JSON."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    ERROR = "error"  # the check itself failed: nothing is known


class Needs(StrEnum):
    """What a check cannot do without; it is left out where that is not there."""

    NOTHING = "nothing"
    PROFILE = "profile"
    PLAN = "plan"
    ENGINE = "a running engine"  # `--live URL`
    NODES = "several nodes"  # a profile whose `cluster.nodes` is more than one


@dataclass(frozen=True)
class Context:
    """What checks look at. `profile` is None without a profile; `prepared` also when no plan
    could be made, and then `refusal` says why. `path`: of the profile, for commands to paste."""

    profile: Profile | None = None
    prepared: Prepared | None = None
    refusal: KvtierError | None = None
    root: Path = Path("/")
    path: Path | None = None

    @property
    def plan(self) -> Plan | None:
        return self.prepared.plan if self.prepared else None

    @cached_property
    def host(self) -> Host:
        """The plan's, or a fresh probe. Raises HostError."""
        return self.prepared.host if self.prepared else probe(self.root)

    @cached_property
    def silent(self) -> frozenset[Path]:
        """Directories of the profile on a server that does not answer: no check may look there."""
        if self.profile is None:
            return frozenset()
        named = (*self.profile.tiers.l3.directories, *self.profile.cluster.shared_directories)
        mounts = MountTable(self.root)
        return frozenset(path for path in named if not mounts.answers(path))

    @cached_property
    def serving(self) -> Instance | None:
        """The instance that serves this very profile now: what its engine holds is in nobody's
        way."""
        return serving(self.path) if self.path is not None else None

    @property
    def is_its_launcher(self) -> bool:
        """Whether this process serves the profile: it is bound already, as the profile says."""
        return self.serving is not None and self.serving.state.pid == os.getpid()

    def has(self, needs: Needs) -> bool:
        if needs is Needs.NODES:
            return self.profile is not None and self.profile.cluster.nodes > 1
        if needs is Needs.ENGINE:
            return False
        found = {Needs.PROFILE: self.profile, Needs.PLAN: self.prepared}
        return needs is Needs.NOTHING or found[needs] is not None


@dataclass(frozen=True)
class Outcome:
    """What one check found about one thing. `fix` is a command or a change to the profile."""

    ok: bool
    required: str
    current: str
    fix: str = ""
    subject: str = ""  # which of several, such as a directory
    reason: str = ""  # of what is required, from this profile


@dataclass(frozen=True)
class Check:
    """`look` yields nothing where the check does not apply. `passes` completes "passes when";
    `why` says why it matters, what comes of ignoring it, and what the fix does."""

    id: str
    group: str
    what: str
    severity: Severity
    look: Callable[[Context], Iterable[Outcome]]
    needs: Needs = Needs.NOTHING
    passes: str = ""
    why: str = ""


@dataclass(frozen=True)
class Finding:
    """A check's outcome, complete for table and JSON. `broke`: the check itself failed, which
    says nothing of the host, so that `launch` goes on."""

    id: str
    group: str
    what: str
    severity: Severity
    ok: bool
    required: str
    current: str
    fix: str
    reason: str = ""
    broke: bool = False

    @property
    def result(self) -> Result:
        if self.broke:
            return Result.ERROR
        return Result.OK if self.ok else Result(self.severity.value)

    @property
    def required_because(self) -> str:
        """What is required, and the reason, as one sentence."""
        return f"{self.required}: {self.reason}" if self.reason else self.required

    def problem(self) -> Problem:
        """For launch, which stops with the check's own text."""
        required = f"; required: {self.required_because}" if self.required else ""
        return Problem(f"{self.what}: {self.current}{required}", self.fix, id=self.id)


def run_checks(checks: Iterable[Check], context: Context) -> Iterator[Finding]:
    """All findings, in order. A check never raises for what the host is like; one that raises
    all the same is a finding as well, and the others are made."""
    for check in checks:
        if not context.has(check.needs):
            continue
        yield from findings_of(check, partial(check.look, context))


class Named(Protocol):
    """What a finding takes over from its check."""

    @property
    def id(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def severity(self) -> Severity: ...


def findings_of(check: Named, look: Callable[[], Iterable[Outcome]]) -> list[Finding]:
    """What one check found, or that it broke."""
    try:
        return [_finding(check, outcome) for outcome in look()]
    except Exception as error:
        raise_if_stopped()
        return [_broken(check, error)]


def _finding(check: Named, outcome: Outcome) -> Finding:
    return Finding(
        id=check.id,
        group=check.group,
        what=f"{check.what} {outcome.subject}".strip(),
        severity=check.severity,
        ok=outcome.ok,
        required=outcome.required,
        current=outcome.current,
        fix="" if outcome.ok else outcome.fix,
        reason=outcome.reason,
    )


def _broken(check: Named, error: Exception) -> Finding:
    said = str(error).strip()
    return Finding(
        id=check.id,
        group=check.group,
        what=check.what,
        severity=Severity.WARNING,
        ok=False,
        required="",
        current="the check itself failed: " + type(error).__name__ + (f": {said}" if said else ""),
        fix=f"please report it; until then, `--skip {check.id}`",
        broke=True,
    )
