"""What can go wrong on the operator's side, and how it is told.

    KvtierError
    ├── BadInput            2   the profile, an option or the model's files are wrong
    │   ├── ProfileError        the profile; carries every problem, not only the first
    │   └── ModelError          the model's folder or file
    ├── Refused             3   the input is right, this host or moment is not
    │   ├── PlanDoesNotFit      the host has too little; says what fits
    │   ├── ChecksFailed        a check of the doctor that launch depends on
    │   ├── PullFailed          the model could not be fetched
    │   ├── AlreadyRunning      another launcher holds this profile
    │   └── HostError           the operating system said no
    ├── EngineFailed      1|3   the engine ended before it was asked to
    └── Interrupted       130   Ctrl-C or SIGTERM before the engine was ready

Anything else that reaches `cli.main` is a bug of kvtier and exits 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

REPORT_URL = "https://github.com/kvtier/kvtier/issues"


class ExitCode(IntEnum):
    OK = 0
    BUG = 1
    BAD_INPUT = 2
    REFUSED = 3
    WARNINGS = 4
    INTERRUPTED = 130
    BROKEN_PIPE = 141  # as a shell shows a program that SIGPIPE has ended


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what, and the way out.

    `field` is the dotted name of a profile field (`tiers.l2.size`); `place` is what the
    reader can open (`quickstart.yaml:12:9`). Any may be empty. `id` never changes: it is what
    operators search for.
    """

    what: str
    hint: str = ""
    field: str = ""
    place: str = ""
    id: str = ""

    def lines(self) -> list[str]:
        """`error:` and, if there is a way out, `hint:`."""
        names_field = bool(self.field) and self.place != f"--set {self.field}"
        parts = (self.place, self.id, f"`{self.field}`" if names_field else "")
        subject = ": ".join(part for part in parts if part)
        first = f"error: {subject}: {self.what}" if subject else f"error: {self.what}"
        return [first, f"hint: {self.hint}"] if self.hint else [first]


class KvtierError(Exception):
    """Base of all: one or more problems, each a sentence for the operator."""

    exit_code: int = ExitCode.BUG

    def __init__(
        self, what: str = "", hint: str = "", *, field: str = "", place: str = "", id: str = ""
    ) -> None:
        super().__init__(what)
        problem = Problem(what, hint, field, place, id)
        self.problems: tuple[Problem, ...] = (problem,) if what else ()

    def __str__(self) -> str:
        return "; ".join(problem.what for problem in self.problems)

    def locate(self, place_of: Callable[[str], str]) -> None:
        """Fills in the place of every problem that names a field but no place."""
        self.problems = tuple(
            replace(problem, place=place_of(problem.field))
            if problem.field and not problem.place
            else problem
            for problem in self.problems
        )

    def render(self) -> str:
        """All problems, a blank line between two. No colour, no trailing newline."""
        return "\n\n".join("\n".join(problem.lines()) for problem in self.problems)


class BadInput(KvtierError):
    """What the operator wrote is wrong."""

    exit_code = ExitCode.BAD_INPUT


class ProfileError(BadInput):
    """The profile cannot be used; carries all of its problems."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__()
        self.problems = tuple(problems)


class ModelError(BadInput):
    """The model's files are missing, incomplete or of an architecture not supported."""


class Refused(KvtierError):
    """The input is right, but it cannot be done here and now."""

    exit_code = ExitCode.REFUSED


class PlanDoesNotFit(Refused):
    """The host has less than the profile asks for."""


class ChecksFailed(Refused):
    """Checks of the doctor that failed; each problem is one check."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__()
        self.problems = tuple(problems)


class PullFailed(Refused):
    """A registered model could not be fetched, or what came was not it."""


class AlreadyRunning(Refused):
    """Another launcher serves this profile."""


class HostError(Refused):
    """The operating system refused something; wraps the OSError."""


class EngineFailed(KvtierError):
    """The engine ended by itself. `exit_code` is 3 if it could say why, else 1."""

    def __init__(self, what: str, hint: str, *, explained: bool) -> None:
        super().__init__(what, hint)
        self.exit_code = ExitCode.REFUSED if explained else ExitCode.BUG


class Interrupted(KvtierError):
    """The operator stopped it before there was something to serve."""

    exit_code = ExitCode.INTERRUPTED
