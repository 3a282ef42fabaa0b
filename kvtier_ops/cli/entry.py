"""The command `kvtier`: parse, call, print. Decisions are made in the modules it calls."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import typer

from kvtier_ops.cache.commands import app as cache_app
from kvtier_ops.cli.bench import app as bench_app
from kvtier_ops.cli.doctor import DoctorCommand, doctor
from kvtier_ops.cli.host import app as host_app
from kvtier_ops.cli.instances import logs, ps, reload, restart, status, stop
from kvtier_ops.cli.launch import launch
from kvtier_ops.cli.model import app as model_app
from kvtier_ops.cli.plan import plan
from kvtier_ops.cli.profile import app as profile_app
from kvtier_ops.cli.render import app as render_app
from kvtier_ops.cli.simulate import simulate
from kvtier_ops.cli.tune import tune
from kvtier_ops.errors import REPORT_URL, BadInput, ExitCode, Interrupted, KvtierError, Problem
from kvtier_ops.interrupt import was_stopped
from kvtier_ops.store.commands import app as store_app
from kvtier_ops.terminal import Terminal

app = typer.Typer(
    name="kvtier",
    help="LLM serving whose KV cache spans GPU memory, host memory and disk.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(plan)
app.command(cls=DoctorCommand)(doctor)
app.command()(tune)
app.command()(launch)
for command in (ps, status, logs, stop, restart, reload):
    app.command()(command)
app.command()(simulate)
app.add_typer(bench_app, name="bench")
app.add_typer(cache_app, name="cache")
app.add_typer(host_app, name="host")
app.add_typer(model_app, name="model")
app.add_typer(profile_app, name="profile")
app.add_typer(render_app, name="render")
app.add_typer(store_app, name="store")


def _show_version(wanted: bool) -> None:
    if wanted:
        Terminal().data(f"kvtier {version('kvtier')}")
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


def run(arguments: list[str]) -> int:
    """The exit code of `kvtier ARGUMENTS`."""
    terminal = Terminal()
    try:
        result: Any = app(arguments, prog_name="kvtier", standalone_mode=False)
        return _interrupted(terminal) if result == ExitCode.INTERRUPTED else int(result or 0)
    except Interrupted as error:
        terminal.note(str(error))
        return error.exit_code
    except KvtierError as error:
        terminal.show_error(error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(terminal)
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # typer does not export it
            terminal.note(error.format_message())
        else:
            terminal.show_error(_usage(error))
        return ExitCode.BAD_INPUT
    except SystemExit as error:  # typer's way out where nobody reads stdout any more
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        terminal.give_up_stdout()
        return ExitCode.BROKEN_PIPE
    except Exception as error:
        if was_stopped():
            return _interrupted(terminal)
        return _bug(error, terminal, "--debug" in arguments)


def _interrupted(terminal: Terminal) -> int:
    terminal.note("interrupted")
    return ExitCode.INTERRUPTED


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
