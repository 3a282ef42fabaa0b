"""`kvtier launch --dry-run`: what a launch would do, in its order; nothing is started."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence

from kvtier_ops.doctor import report
from kvtier_ops.errors import ChecksFailed, ExitCode, Problem
from kvtier_ops.instance import instance_name, run_dir_of
from kvtier_ops.instances import instance_of
from kvtier_ops.launch import engine_process
from kvtier_ops.launch.binding import binding_of, describe_ranks
from kvtier_ops.launch.host_tuning import Tuning, tell_what_killed_left
from kvtier_ops.launch.preflight import Preflight, preflight
from kvtier_ops.launch.record import Collision, refuse_collisions
from kvtier_ops.launch.run_dir import already_running
from kvtier_ops.launch.served import Served
from kvtier_ops.plan import Plan
from kvtier_ops.plan.engine_limits import ENGINE_LIMITS
from kvtier_ops.plan.report import render_plan
from kvtier_ops.prepare import Prepared
from kvtier_ops.profile.load import ProfileFile
from kvtier_ops.profile.secrets import masked_environment
from kvtier_ops.terminal import Terminal
from kvtier_ops.tune.limits import raise_limits
from kvtier_ops.tune.report import render_changes


def show(
    file: ProfileFile,
    prepared: Prepared,
    forced: tuple[str, ...],
    terminal: Terminal,
    *,
    tune: bool,
) -> int:
    """Raises ChecksFailed, after all has been shown, for what would stop the launch."""
    plan, width = prepared.plan, terminal.out.width
    terminal.data(f"plan\n\n{render_plan(plan, width)}")
    tune = tell_what_killed_left(terminal) and tune
    tuned = Tuning(file, terminal, enabled=tune)
    changes = tuned.changes(plan)
    found = preflight(file, prepared, forced, tuned.mends(plan))
    terminal.data(f"\npreflight\n\n{report.render(found.findings, width)}")
    limits = raise_limits(locks_memory=plan.device == "cuda", dry_run=True) if tune else ()
    tuning = [*render_changes(changes, width), *(each.describe() for each in limits)]
    if tuning:
        terminal.data("\n".join(["\ntuning, put back at the end\n", *tuning]))
    for note in found.notes(file.path):
        if note.startswith("warning: forced"):
            terminal.note(note)
    collisions = list(_collisions(plan, file))
    _refuse_limits(plan)
    _show_start(Served(file, prepared), terminal)
    _refuse(found, collisions)
    return ExitCode.OK


def _show_start(served: Served, terminal: Terminal) -> None:
    plan, run_dir = served.plan, run_dir_of(served.file.path)
    binding = [*binding_of(plan).describe(), *describe_ranks(plan)]
    environment = masked_environment(plan.profile.engine.environment)
    config = served.config(run_dir).model_dump_json(indent=2)
    command = _shown(engine_process.engine_command(run_dir / "config.json"))
    terminal.data(f"\n{run_dir}/config.json (arena_fd is filled in at start)\n\n{config}")
    for title, lines in (
        ("binding", binding),
        ("environment", [f"{name}={value}" for name, value in environment.items()]),
        ("command", [command]),
    ):
        if lines:
            terminal.data("\n".join([f"\n{title}\n", *(f"  {line}" for line in lines)]))


def _collisions(plan: Plan, file: ProfileFile) -> Iterator[Problem]:
    """With other instances, and with one of this very profile."""
    own = instance_of(file.path)
    if own is not None:
        yield from already_running(file.path, own.state.pid).problems
    try:
        refuse_collisions(plan, instance_name(file.path))
    except Collision as error:
        yield from error.problems


def _refuse_limits(plan: Plan) -> None:
    """Raises ChecksFailed for what the engine cannot be told at all."""
    limits = [each for each in plan.warnings if each.id.startswith(ENGINE_LIMITS)]
    if limits:
        raise ChecksFailed([Problem(w.what, w.hint, w.field, id=w.id) for w in limits])


def _refuse(found: Preflight, collisions: Sequence[Problem]) -> None:
    problems = [*collisions, *(finding.problem() for finding in found.failed)]
    if problems:
        raise ChecksFailed(problems)


def _shown(command: Sequence[str]) -> str:
    """As one could type it: the shell's own process id in the place of ours."""
    pid = str(os.getpid())
    return " ".join("$$" if word == pid else shlex.quote(word) for word in command)
