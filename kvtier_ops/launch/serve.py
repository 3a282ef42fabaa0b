"""validate -> find or pull the model -> plan -> preflight -> start -> wait -> serve."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from kvtier_ops.doctor import Context, Severity
from kvtier_ops.doctor.examine import find
from kvtier_ops.errors import ChecksFailed, ExitCode, KvtierError, Problem
from kvtier_ops.instance import log_path_of, run_dir_of, state_dir_of
from kvtier_ops.launch.arena import create_arena
from kvtier_ops.launch.binding import binding_of, describe_ranks
from kvtier_ops.launch.engine_log import EngineLog
from kvtier_ops.launch.engine_process import EngineProcess, engine_command, url_of
from kvtier_ops.launch.run_dir import RunDir, open_run_dir
from kvtier_ops.launch.signals import StopSignals
from kvtier_ops.launch.supervise import Supervisor
from kvtier_ops.model.pull import is_complete, pull
from kvtier_ops.model.registry import REGISTERED
from kvtier_ops.paths import abbreviate
from kvtier_ops.plan import Plan, Warning_
from kvtier_ops.plan.engine_limits import ENGINE_LIMITS
from kvtier_ops.plan.report import render_plan
from kvtier_ops.prepare import Prepared, prepare
from kvtier_ops.profile.load import ProfileFile, load_profile
from kvtier_ops.profile.secrets import masked_environment
from kvtier_ops.terminal import Terminal


def launch(path: Path, overrides: Sequence[str], terminal: Terminal, *, dry_run: bool) -> int:
    """Serves the profile until it is stopped; the exit code. Raises KvtierError."""
    file = load_profile(path, overrides)
    try:
        if dry_run:
            return _show(file, prepare(file).plan, terminal)
        run_dir = open_run_dir(path)
        try:
            _pull_if_missing(file, terminal)
            prepared = prepare(file)
            _preflight(file, prepared)
            plan = prepared.plan
            for warning in plan.warnings:
                terminal.note(f"warning: {warning.id}: {warning.what}\nhint: {warning.hint}")
            return _serve(file, plan, run_dir, terminal)
        finally:
            run_dir.close()
    except KvtierError as error:
        error.locate(file.place_of)
        raise


def _pull_if_missing(file: ProfileFile, terminal: Terminal) -> None:
    model = REGISTERED.get(file.profile.model.path)
    if model is not None and not is_complete(model):
        terminal.note(f"pulling {model.name} into {abbreviate(model.folder)}")
        with terminal.progress() as progress:
            pull(model, progress.update)


def _preflight(file: ProfileFile, prepared: Prepared) -> None:
    """Raises ChecksFailed with every check of the doctor that fails for this profile."""
    findings = find(Context(file.profile, prepared))
    failed = [f.problem() for f in findings if not f.ok and f.severity is Severity.FAILURE]
    if failed:
        raise ChecksFailed(failed)


def _serve(file: ProfileFile, plan: Plan, run_dir: RunDir, terminal: Terminal) -> int:
    arena_fd = create_arena(plan.profile.tiers.l2.hugepages) if plan.l2.pages else None
    try:
        config = plan.engine_config(run_dir.path, arena_fd, state_dir_of(file.path))
        config_path = run_dir.write_config(config.model_dump_json(indent=2))
        log = EngineLog(log_path_of(file.path), terminal.note)
        terminal.note(f"starting {plan.served_name} on {plan.device}, {plan.threads} threads")
        with StopSignals() as signals:
            binding_of(plan).apply()
            environment = plan.profile.engine.environment
            engine = EngineProcess(engine_command(config_path), arena_fd, environment)
            try:
                log.follow(engine.output)
                supervisor = Supervisor(
                    engine=engine,
                    log=log,
                    run_dir=run_dir,
                    signals=signals,
                    terminal=terminal,
                    start_timeout_s=plan.profile.server.start_timeout_s,
                    drain_s=plan.profile.server.drain_s,
                )
                return supervisor.run(
                    lambda host, port: _announce(plan, url_of(host, port), log.path, terminal)
                )
            finally:
                engine.kill()
                log.close()
                engine.close()
    finally:
        if arena_fd is not None:
            os.close(arena_fd)


def _check_served(plan: Plan) -> None:
    """Raises ChecksFailed for what the engine cannot be told at all."""
    _refuse([each for each in plan.warnings if each.id.startswith(ENGINE_LIMITS)])


def _refuse(warnings: Sequence[Warning_]) -> None:
    """Raises ChecksFailed if there are any."""
    if warnings:
        raise ChecksFailed([Problem(w.what, w.hint, w.field, id=w.id) for w in warnings])


def _shown(command: Sequence[str]) -> str:
    """As one could type it: the shell's own process id in the place of ours."""
    pid = str(os.getpid())
    return " ".join("$$" if word == pid else shlex.quote(word) for word in command)


def _announce(plan: Plan, url: str, log: Path, terminal: Terminal) -> None:
    question = {
        "model": plan.served_name,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
    }
    terminal.data(
        f"serving {plan.served_name} at {url}/v1\n\n"
        f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\\n"
        f"{_key_header(plan)}"
        f"    -d {shlex.quote(json.dumps(question))}\n\n"
        f"  log:  {abbreviate(log)}\n"
        f"  stop: Ctrl-C, or `kill {os.getpid()}`"
    )


def _key_header(plan: Plan) -> str:
    """The line of a curl command that sends a key, without the key; empty if none is needed."""
    keys = plan.profile.server.api_keys
    if not keys:
        return ""
    shell = f"${{{keys[0].env}}}" if keys[0].env else f"$(cat {shlex.quote(keys[0].file)})"
    return f'    -H "Authorization: Bearer {shell}" \\\n'


def _show(file: ProfileFile, plan: Plan, terminal: Terminal) -> int:
    """What a launch would do, in the order in which it would do it."""
    _check_served(plan)
    run_dir = run_dir_of(file.path)
    config = plan.engine_config(run_dir, state_dir=state_dir_of(file.path))
    terminal.data(render_plan(plan, terminal.out.width))
    terminal.data(f"\n{run_dir}/config.json (arena_fd is filled in at start)\n")
    terminal.data(config.model_dump_json(indent=2))
    environment = masked_environment(plan.profile.engine.environment)
    for title, lines in (
        ("binding", [*binding_of(plan).describe(), *describe_ranks(plan)]),
        ("environment", [f"{name}={value}" for name, value in environment.items()]),
        ("command", [_shown(engine_command(run_dir / "config.json"))]),
    ):
        if lines:
            terminal.data("\n".join([f"\n{title}\n", *(f"  {line}" for line in lines)]))
    _refuse([warning for warning in plan.warnings if warning.forbids_launch])
    return ExitCode.OK
