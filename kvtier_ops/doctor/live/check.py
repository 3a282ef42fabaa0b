"""A check of a running engine: as those of the host, but over what the engine says of itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kvtier_ops.doctor.check import Finding, Outcome, Severity, findings_of
from kvtier_ops.doctor.live.samples import Span
from kvtier_ops.profile.schema import Profile


@dataclass(frozen=True)
class Live:
    """What the checks look at. `admin`: what /admin/cache says; empty without a key."""

    span: Span
    is_ready: bool = True
    ready: Mapping[str, Any] = field(default_factory=dict)
    admin: Mapping[str, Any] = field(default_factory=dict)
    profile: Profile | None = None
    version: str = ""  # of this kvtier

    @property
    def config(self) -> Mapping[str, str]:
        return self.span.now.config

    def setting(self, name: str) -> int | None:
        """A number of the engine's configuration; None if it does not say."""
        text = self.config.get(name, "")
        return int(text) if text.isdecimal() else None


@dataclass(frozen=True)
class LiveCheck:
    """`look` yields nothing where the check does not apply. Its docstring says why it matters;
    `passes` completes "passes when"."""

    id: str
    group: str
    what: str
    severity: Severity
    look: Callable[[Live], Iterable[Outcome]]
    passes: str

    @property
    def why(self) -> str:
        return " ".join((inspect.getdoc(self.look) or "").split())


def run_live(checks: Iterable[LiveCheck], live: Live) -> Iterator[Finding]:
    """All findings, in order; a check that breaks is one as well."""
    for check in checks:
        yield from findings_of(check, partial(check.look, live))


def counted(number: float) -> str:
    """`12,345`."""
    return f"{number:,.0f}"


def lasted(seconds: float) -> str:
    """`0.35 s`, `84 s`, `12 min`, `3.4 h`, `2.1 days`."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
