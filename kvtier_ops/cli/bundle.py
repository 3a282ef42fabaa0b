"""`kvtier doctor bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_command

from kvtier_ops.cli.files import check_target
from kvtier_ops.cli.options import Overrides, check_url
from kvtier_ops.errors import ExitCode
from kvtier_ops.terminal import Terminal
from kvtier_ops.text import shortened
from kvtier_ops.units import format_bytes

if TYPE_CHECKING:
    from kvtier_ops.bundle.make import Bundle


def bundle_command() -> Any:
    """As the command line has it; made when it is asked for."""
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(bundle)
    return get_command(app)


def bundle(
    profile: Annotated[
        Path | None, typer.Argument(metavar="[PROFILE]", help="What is, or was, served.")
    ] = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: a name with the time, here."),
    ] = None,
    live: Annotated[
        str | None, typer.Option("--live", metavar="URL", help="Ask a running engine as well.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> int:
    """Collect what a bug report needs into one archive, without secrets.

    What cannot be had is noted in its manifest. Prompts, request traces and pages are never in it.
    """
    from kvtier_ops.bundle.make import make_bundle, write_bundle

    check_url(live)
    terminal = Terminal()
    check_target(output or Path("kvtier-bundle.tar.gz").absolute(), force=force or not output)
    with terminal.progress() as progress:
        made = make_bundle(profile, overrides or [], live or "", progress.update)
    path = output or Path(f"{made.folder}.tar.gz")
    write_bundle(made, path, force=force)
    terminal.data(_contents(made))
    terminal.note(
        f"wrote {path} ({format_bytes(path.stat().st_size)}); look into it before you send it"
    )
    return ExitCode.OK


def _contents(made: Bundle) -> str:
    lines = [f"{'BYTES':>9}  {'REMOVED':>7}  FILE"]
    for item in made.items:
        lines.append(f"{len(item.data):>9}  {item.cleaned:>7}  {item.name}")
    lines += ["", "secrets are removed; names of users, hosts, folders and tenants are not"]
    for name, why in made.missing.items():
        lines.append(f"missing: {name}: {shortened(' '.join(why.split()), 300)}")
    return "\n".join(lines)
