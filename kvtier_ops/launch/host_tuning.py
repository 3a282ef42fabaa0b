"""What a launch changes on the host for its engine, and puts back when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kvtier_ops.errors import HostError
from kvtier_ops.instance import instance_name
from kvtier_ops.launch.record import shown_override
from kvtier_ops.plan import Plan
from kvtier_ops.profile.load import ProfileFile
from kvtier_ops.terminal import Terminal
from kvtier_ops.tune.apply import Result, Tuner
from kvtier_ops.tune.change import Change
from kvtier_ops.tune.find import find_changes
from kvtier_ops.tune.journal import open_journal, read_journal
from kvtier_ops.tune.limits import raise_limits
from kvtier_ops.tune.owner import this_process
from kvtier_ops.tune.report import render_stale
from kvtier_ops.tune.rights import kvtier_as_root
from kvtier_ops.tune.undo import PutBack, is_stale, put_back, put_back_stale

_ROOT = Path("/")


def clean_up_after_killed(terminal: Terminal) -> bool:
    """Puts back what launchers that were killed had changed, and says so. False, with a warning:
    the journal is of no use, so nothing can be tuned."""
    try:
        put_back_after_killed(terminal)
    except HostError as error:
        _say_useless(error, terminal)
        return False
    return True


def put_back_after_killed(terminal: Terminal) -> None:
    """What could not be put back stays in the journal. Raises HostError for one of no use."""
    if not any(is_stale(entry) for entry in read_journal().entries):
        return
    with open_journal(on_wait=partial(_say_waiting, terminal)) as journal:
        done = put_back_stale(journal, _ROOT)
    _tell(done, terminal, "put back what a killed launcher changed: ")
    if any(each.error for each in done):
        terminal.note(f"hint: `{kvtier_as_root(['tune', '--undo'])}` tries again")


def tell_what_killed_left(terminal: Terminal) -> bool:
    """The same for a dry run, which puts nothing back."""
    try:
        lines = render_stale(read_journal())
    except HostError as error:
        _say_useless(error, terminal)
        return False
    for line in lines:
        terminal.note(line)
    return True


def _say_useless(error: HostError, terminal: Terminal) -> None:
    [problem] = error.problems
    terminal.note(f"warning: nothing is tuned: {problem.what}\nhint: {problem.hint}")


class Tuning:
    """What one launch has changed, and may change again for a profile that is reloaded. A launch
    that leaves the host alone has one that does nothing."""

    def __init__(
        self,
        file: ProfileFile,
        terminal: Terminal,
        *,
        enabled: bool,
        overrides: Sequence[str] = (),
    ) -> None:
        self._again = _as_root(file, overrides)
        self._owner = this_process(instance_name(file.path))
        self._terminal = terminal
        self._enabled = enabled

    def changes(self, plan: Plan) -> tuple[Change, ...]:
        """What `tune` would change now."""
        return find_changes(plan, read_journal()) if self._enabled else ()

    def mends(self, plan: Plan) -> tuple[str, ...]:
        """Ids of the findings that these changes make go away."""
        return tuple(dict.fromkeys(change.mends for change in self.changes(plan)))

    def tune(self, plan: Plan, say: Callable[[str], None]) -> bool:
        """True if something was changed. What could not be is a warning: the engine runs without
        all of it."""
        if not self._enabled:
            return False
        for raised in raise_limits(locks_memory=plan.device == "cuda"):
            say(f"limit of the engine: {raised.describe()}")
        if not self.changes(plan):
            return False
        try:
            with open_journal(on_wait=self._waits) as journal, self._terminal.progress() as shown:
                tuner = Tuner(journal, self._owner, self._again, progress=shown.update)
                results = tuner.apply(find_changes(plan, journal))
        except HostError as error:  # no journal, no change
            say(f"warning: nothing was tuned: {error}")
            return False
        for result in results:
            say("\n".join(_lines(result)))
        return any(result.ok for result in results)

    def put_back(self) -> None:
        """Raises HostError if the journal cannot be read or written any more."""
        if self._enabled and any(each.owner == self._owner for each in read_journal().entries):
            with open_journal(on_wait=self._waits) as journal:
                done = put_back(journal, lambda entry: entry.owner == self._owner, _ROOT)
            _tell(done, self._terminal, "put back: ")

    def _waits(self) -> None:
        _say_waiting(self._terminal)


@contextmanager
def host_tuned(
    file: ProfileFile, terminal: Terminal, *, enabled: bool, overrides: Sequence[str]
) -> Iterator[Tuning]:
    """Whatever is tuned within the block is put back after it, however it ends."""
    tuning = Tuning(file, terminal, enabled=enabled, overrides=overrides)
    try:
        yield tuning
    finally:
        tuning.put_back()


def _as_root(file: ProfileFile, overrides: Sequence[str]) -> str:
    """The command that does it beforehand, without secrets."""
    changes = [word for each in overrides for word in ("--set", shown_override(each))]
    return kvtier_as_root(["tune", str(file.path), *changes])


def _lines(result: Result) -> list[str]:
    change = result.change
    if result.ok:
        return [f"tuned: {change.path}: {change.old} -> {change.new} ({change.why})"]
    lines = [f"warning: {change.mends}: not tuned, the engine runs without it: {result.error}"]
    return [*lines, f"hint: {result.hint}"] if result.hint else lines


def _tell(done: Sequence[PutBack], terminal: Terminal, prefix: str) -> None:
    for each in done:
        mark = "warning: " if each.error else ""
        terminal.note(f"{mark}{prefix}{each.line}")


def _say_waiting(terminal: Terminal) -> None:
    terminal.note("waiting for another kvtier that tunes this host")
