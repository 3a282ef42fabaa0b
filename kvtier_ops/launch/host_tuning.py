"""What a launch changes on the host for its engine, and puts back when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kvtier_ops.errors import HostError
from kvtier_ops.instance import instance_name
from kvtier_ops.launch.record import shown_override
from kvtier_ops.plan import Plan
from kvtier_ops.prepare import Prepared, prepare
from kvtier_ops.profile.load import ProfileFile
from kvtier_ops.terminal import Terminal
from kvtier_ops.tune.apply import Result, Tuner
from kvtier_ops.tune.change import Change
from kvtier_ops.tune.find import find_changes
from kvtier_ops.tune.journal import open_journal, read_journal
from kvtier_ops.tune.limits import raise_limits
from kvtier_ops.tune.owner import Owner, this_process
from kvtier_ops.tune.report import render_stale
from kvtier_ops.tune.rights import kvtier_as_root
from kvtier_ops.tune.undo import PutBack, put_back, put_back_stale

_ROOT = Path("/")


def planned_changes(plan: Plan) -> tuple[Change, ...]:
    """What `host_tuned` would change now."""
    return find_changes(plan, read_journal())


def mended_by(changes: Sequence[Change]) -> tuple[str, ...]:
    """Ids of findings that these changes make go away."""
    return tuple(dict.fromkeys(change.mends for change in changes))


def left_by_killed() -> list[str]:
    """What `clean_up_after_killed` would say, for a dry run."""
    return render_stale(read_journal())


def clean_up_after_killed(terminal: Terminal) -> bool:
    """Puts back what launchers that were killed had changed, and says so. False, with a warning:
    the journal is of no use, so nothing can be tuned."""
    prefix = "put back what a killed launcher changed: "
    try:
        if read_journal().entries:
            with open_journal(on_wait=_waits(terminal)) as journal:
                _tell(put_back_stale(journal, _ROOT), terminal, prefix)
    except HostError as error:
        [problem] = error.problems
        terminal.note(f"warning: nothing is tuned: {problem.what}\nhint: {problem.hint}")
        return False
    return True


@contextmanager
def host_tuned(
    file: ProfileFile, prepared: Prepared, overrides: Sequence[str], terminal: Terminal
) -> Iterator[Prepared]:
    """The host is changed for this plan before the block, and is put back after it, however it
    ends. What could not be changed is a warning: the engine runs without all of it.

    Yields the plan of the host as it is then. Raises HostError if the journal is damaged.
    """
    owner = this_process(instance_name(file.path))
    try:
        results = _tune(prepared, owner, _as_root(file, overrides), terminal)
        yield prepare(file) if any(result.ok for result in results) else prepared
    finally:
        if any(entry.owner == owner for entry in read_journal().entries):
            with open_journal(on_wait=_waits(terminal)) as journal:
                done = put_back(journal, lambda entry: entry.owner == owner, _ROOT)
            _tell(done, terminal, "put back: ")


def _as_root(file: ProfileFile, overrides: Sequence[str]) -> str:
    """The command that does it beforehand, without secrets."""
    changes = [word for each in overrides for word in ("--set", shown_override(each))]
    return kvtier_as_root(["tune", str(file.path), *changes])


def _tune(prepared: Prepared, owner: Owner, again: str, terminal: Terminal) -> list[Result]:
    plan = prepared.plan
    for raised in raise_limits(locks_memory=plan.device == "cuda"):
        terminal.note(f"limit of the engine: {raised.describe()}")
    if not planned_changes(plan):
        return []
    try:
        with open_journal(on_wait=_waits(terminal)) as journal, terminal.progress() as progress:
            tuner = Tuner(journal, owner, again, progress=progress.update)
            results = tuner.apply(find_changes(plan, journal))
    except HostError as error:  # no journal, no change: the engine runs without
        terminal.note(f"warning: nothing was tuned: {error}")
        return []
    for result in results:
        terminal.note("\n".join(_lines(result)))
    return results


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


def _waits(terminal: Terminal) -> Callable[[], None]:
    """Said if somebody else tunes just then."""
    return lambda: terminal.note("waiting for another kvtier that tunes this host")
