"""`kvtier host ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvtier_ops.cli.files import check_target, write_whole
from kvtier_ops.errors import ExitCode
from kvtier_ops.host import probe
from kvtier_ops.terminal import Terminal

app = typer.Typer(help="Show hosts, and record them to plan for elsewhere.", no_args_is_help=True)


@app.command("record")
def record_host(
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there, not to the terminal.")
    ] = None,
    anonymize: Annotated[
        bool,
        typer.Option(
            "--anonymize", help="Leave out the host's name, what is mounted, and mount options."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> int:
    """Write down what this host has, for `kvtier plan --host FILE`."""
    from kvtier_ops.host.record import anonymized, host_as_text

    terminal = Terminal()
    if output is not None:
        check_target(output, force=force)
    host = probe(everything=True)
    text = host_as_text(anonymized(host) if anonymize else host)
    if output is None:
        terminal.data(text.rstrip("\n"))
    else:
        write_whole(output, text)
        terminal.note(f"wrote {output}")
    return ExitCode.OK


@app.command("show")
def show_host(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A recorded host; without, this one.")
    ] = None,
) -> int:
    """Show memory, NUMA nodes, GPUs and file systems."""
    from kvtier_ops.host.record import load_host
    from kvtier_ops.host.report import render_host

    terminal = Terminal()
    host = probe(everything=True) if file is None else load_host(file)
    terminal.data(render_host(host))
    return ExitCode.OK
