"""`kvtier doctor bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from kvtier_ops.errors import ExitCode


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
) -> int:
    """Collect what a bug report needs into one archive, without secrets."""
    return ExitCode.OK
