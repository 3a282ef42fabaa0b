"""`kvtier tune`. What only it needs is imported when it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvtier_ops.cli.files import check_target, write_whole
from kvtier_ops.cli.options import Overrides
from kvtier_ops.errors import BadInput, ExitCode
from kvtier_ops.instance import instance_name
from kvtier_ops.prepare import prepare_at
from kvtier_ops.profile.load import ProfileFile, load_profile
from kvtier_ops.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvtier_ops.plan import Plan
    from kvtier_ops.tune.change import Change
    from kvtier_ops.tune.journal import Entry

_SCRIPT_MODE = 0o755
_STDOUT = Path("-")


def tune(
    profile: Annotated[
        Path | None, typer.Argument(metavar="PROFILE", help="The profile, a YAML file.")
    ] = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every change as old -> new; make none.")
    ] = False,
    script: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a shell script to review, `-`: to stdout, and make no change.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the script.")] = False,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="Put back what was changed, or for PROFILE alone."),
    ] = False,
) -> int:
    """Make this host what a profile needs, until `--undo` or a reboot.

    `launch` does the same for itself, and puts it back when it ends. Exit code 0: done, 3:
    something that the profile needs could not be done, 4: something that only helps.
    """
    terminal = Terminal()
    if undo:
        if overrides or script is not None:
            raise BadInput("`--undo` goes by the journal: it takes a profile alone", place="--undo")
        return _undo(profile, terminal, dry_run)
    if profile is None:
        raise BadInput("missing argument `PROFILE`", "`kvtier tune --help` says more")
    if script is not None and dry_run:
        raise BadInput(
            "`--script` makes no change in any case", "leave `--dry-run` out", place="--dry-run"
        )
    file = load_profile(profile, overrides or [])
    if script is not None:
        if script != _STDOUT:
            check_target(script, force=force)
        return _script(prepare_at(file).plan, script, terminal)
    if dry_run:
        return _show(prepare_at(file).plan, terminal)
    return _apply(file, terminal)


def _changes(plan: Plan) -> Sequence[Change]:
    from kvtier_ops.tune.find import find_changes
    from kvtier_ops.tune.journal import read_journal

    return find_changes(plan, read_journal())


def _show(plan: Plan, terminal: Terminal) -> int:
    from kvtier_ops.tune.journal import read_journal
    from kvtier_ops.tune.limits import raise_limits
    from kvtier_ops.tune.report import render_changes, render_stale
    from kvtier_ops.tune.rights import kvtier_as_root, obstacle

    for line in render_stale(read_journal()):
        terminal.note(line)
    changes, again = _changes(plan), kvtier_as_root(sys.argv[1:])
    lines = render_changes(changes, terminal.out.width) or ["nothing to change on this host"]
    raised = raise_limits(locks_memory=plan.device == "cuda", dry_run=True)
    limits = [f"  {each.describe()}" for each in raised]
    if limits:
        lines += ["", "for the engine's own processes, by `kvtier launch`:", *limits]
    terminal.data("\n".join(lines))
    blocked = [found for change in changes if (found := obstacle(change, Path("/"), again))]
    for found in dict.fromkeys(blocked):
        terminal.note(f"warning: {found.what}\nhint: {found.hint}")
    return ExitCode.OK


def _script(plan: Plan, path: Path, terminal: Terminal) -> int:
    import shlex
    from importlib.metadata import version

    from kvtier_ops.tune.script import render_script

    changes = _changes(plan)
    command = shlex.join(["kvtier", *sys.argv[1:]])
    text = render_script(changes, f"Made by kvtier {version('kvtier')}: {command}")
    count = f"{len(changes)} change{'s' * (len(changes) != 1)}"
    if path == _STDOUT:
        terminal.data(text.removesuffix("\n"))
        terminal.note(f"{count}: read the script before root runs it")
        return ExitCode.OK
    write_whole(path, text)
    path.chmod(_SCRIPT_MODE)
    terminal.note(f"{count} in {path}: read it, then `sudo sh {shlex.quote(str(path))}`")
    return ExitCode.OK


def _apply(file: ProfileFile, terminal: Terminal) -> int:
    """Planned after what killed launchers have left is put back: their pages are free until then,
    and would be counted on."""
    from kvtier_ops.tune.apply import Tuner
    from kvtier_ops.tune.find import find_changes
    from kvtier_ops.tune.journal import open_journal
    from kvtier_ops.tune.owner import operator
    from kvtier_ops.tune.report import render_results
    from kvtier_ops.tune.rights import kvtier_as_root
    from kvtier_ops.tune.undo import put_back_stale

    with open_journal(
        on_wait=lambda: terminal.note("waiting for another kvtier that tunes")
    ) as journal:
        _say_forgotten(journal.forgotten, terminal)
        for done in put_back_stale(journal, Path("/")):
            terminal.note(f"put back what a killed launcher changed: {done.line}")
        plan = prepare_at(file).plan
        with terminal.progress() as progress:
            owner, again = operator(instance_name(file.path)), kvtier_as_root(sys.argv[1:])
            tuner = Tuner(journal, owner, again, progress=progress.update)
            results = tuner.apply(find_changes(plan, journal))
    shown = render_results(results, terminal.out.width) or ["nothing to change on this host"]
    terminal.data("\n".join(shown))
    if any(result.ok for result in results):
        terminal.note("until a reboot, or `kvtier tune --undo`")
    if any(not result.ok and result.change.is_needed for result in results):
        return ExitCode.REFUSED
    return ExitCode.OK if all(result.ok for result in results) else ExitCode.WARNINGS


def _undo(profile: Path | None, terminal: Terminal, dry_run: bool) -> int:
    """With a profile, what was tuned for it alone; also what killed launchers have left."""
    from kvtier_ops.tune.journal import open_journal, read_journal
    from kvtier_ops.tune.owner import operator
    from kvtier_ops.tune.undo import is_stale, put_back

    owner = None
    if profile is not None:
        owner = operator(instance_name(profile))
        owners = {entry.owner for entry in read_journal().entries}
        if not os.path.isfile(profile) and owner not in owners:  # the file may be gone since
            raise BadInput(
                f"there is no profile `{profile}`, and the journal has nothing of one",
                "`kvtier tune --undo` alone puts everything back",
            )

    def is_meant(entry: Entry) -> bool:
        return is_stale(entry) or (entry.owner.is_operator and owner in (None, entry.owner))

    if dry_run:
        entries = read_journal().entries
        _say_undone([entry.line for entry in reversed(entries) if is_meant(entry)], terminal)
        _say_kept(entries, terminal)
        return ExitCode.OK
    with open_journal(
        on_wait=lambda: terminal.note("waiting for another kvtier that tunes")
    ) as journal:
        _say_forgotten(journal.forgotten, terminal)
        journal.save()
        done = put_back(journal, is_meant, Path("/"))
    _say_undone([each.line for each in done], terminal)
    _say_kept(journal.entries, terminal)
    return ExitCode.REFUSED if any(each.error for each in done) else ExitCode.OK


def _say_undone(lines: Sequence[str], terminal: Terminal) -> None:
    from kvtier_ops.tune.rights import kvtier_as_root

    terminal.data("\n".join(lines) or "nothing to put back")
    if not lines and os.geteuid() != 0:
        again = kvtier_as_root(sys.argv[1:])
        terminal.note(f"this user has changed nothing; what root has changed: `{again}`")


def _say_kept(entries: Sequence[Entry], terminal: Terminal) -> None:
    for name in dict.fromkeys(entry.owner.name for entry in entries if entry.owner.is_alive):
        terminal.note(f"{name} is running and keeps its changes until it stops")


def _say_forgotten(count: int, terminal: Terminal) -> None:
    if count:
        terminal.note(f"this host was rebooted since: {count} changes are gone with that")
