"""`kvtier doctor`. What only it needs is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from kvtier_ops.cli.options import AsJson, Overrides
from kvtier_ops.errors import ExitCode
from kvtier_ops.profile.load import load_profile
from kvtier_ops.terminal import Terminal

Names = list[str] | None


def doctor(
    profile: Annotated[
        Path | None, typer.Argument(metavar="[PROFILE]", help="Check the host for this profile.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON Schema of --json, and end.")
    ] = False,
    only: Annotated[
        Names,
        typer.Option(metavar="ID", help="Make these checks alone: an id, its beginning, a group."),
    ] = None,
    skip: Annotated[
        Names, typer.Option(metavar="ID", help="Leave these checks out; names as for --only.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Take warnings for failures.")] = False,
    explain: Annotated[
        str, typer.Option(metavar="ID", help="Say why a check matters and what its fix does.")
    ] = "",
    show_list: Annotated[bool, typer.Option("--list", help="List all checks, and end.")] = False,
) -> int:
    """Say what is wrong with this host, and what mends it.

    Exit code 0: all checks pass, 3: one failed, 4: there are warnings only, 1: a check broke.
    """
    from kvtier_ops.doctor import report
    from kvtier_ops.doctor.examine import examine
    from kvtier_ops.doctor.select import select

    terminal = Terminal()
    width = terminal.out.width
    if schema or show_list or explain:
        if explain:
            text = report.render_explanation(explain, width)
        else:
            text = (
                json.dumps(report.json_schema(), indent=2)
                if schema
                else (report.render_list(width))
            )
        terminal.data(text)
        return ExitCode.OK
    selection = select(only or [], skip or [])
    file = load_profile(profile, overrides or []) if profile else None
    findings = examine(file, selection)
    if as_json:
        name = str(profile) if profile else None
        shape = report.as_json(findings, strict=strict, profile=name)
        terminal.data(json.dumps(shape, indent=2))
    else:
        terminal.data(report.render(findings, width, strict=strict))
    return report.exit_code(findings, strict=strict)
