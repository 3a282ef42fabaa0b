"""`kvtier doctor`. What only it needs is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from kvtier_ops.cli.bundle import bundle_command
from kvtier_ops.cli.options import AsJson, NodeRank, Overrides, check_url, with_node_rank
from kvtier_ops.cli.served import note_served
from kvtier_ops.errors import BadInput, ExitCode
from kvtier_ops.profile.load import ProfileFile, load_profile
from kvtier_ops.profile.secrets import masked
from kvtier_ops.terminal import Terminal

if TYPE_CHECKING:
    from kvtier_ops.doctor import Finding
    from kvtier_ops.doctor.select import Selection

Names = list[str] | None
BUNDLE = "bundle"


class DoctorCommand(TyperCommand):
    """`doctor` takes a profile or, in its place, the word `bundle`: that is a command of its own,
    with its own options and help. A profile of that name is `./bundle`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **more: Any
    ) -> Any:
        if args[:1] == [BUNDLE]:
            return bundle_command().make_context(f"{info_name} {BUNDLE}", args[1:], parent, **more)
        return super().make_context(info_name, args, parent, **more)


def doctor(
    profile: Annotated[
        Path | None, typer.Argument(metavar="[PROFILE]", help="Check the host for this profile.")
    ] = None,
    overrides: Overrides = None,
    node_rank: NodeRank = None,
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
        str | None,
        typer.Option(metavar="ID", help="Say why a check matters and what its fix does."),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List all checks, and end.")] = False,
    live: Annotated[
        str | None, typer.Option("--live", metavar="URL", help="Look at a running engine instead.")
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="With --live, to look for; 0: since its start."),
    ] = None,
) -> int:
    """Say what is wrong with this host, or with a running engine, and what mends it.

    Exit code 0: all checks pass, 3: one failed, 4: there are warnings only, 1: a check broke.
    `kvtier doctor bundle` collects what a bug report needs.
    """
    from kvtier_ops.doctor import report
    from kvtier_ops.doctor.examine import examine
    from kvtier_ops.doctor.select import select

    if interval is not None and live is None:
        raise BadInput("goes with `--live URL`", place="--interval")
    check_url(live)
    terminal = Terminal()
    if schema or show_list or explain is not None:
        terminal.data(_told(explain, terminal.out.width, as_json=as_json, schema=schema))
        return ExitCode.OK
    selection = select(only or [], skip or [])
    file = _profile(profile, overrides, node_rank)
    if profile and not live:
        note_served(profile, terminal)
    findings = _running(live, file, interval, selection) if live else examine(file, selection)
    if as_json:
        name = str(profile) if profile else None
        shape = report.as_json(findings, strict=strict, profile=name)
        terminal.data(json.dumps(shape, indent=2))
    else:
        terminal.data(report.render(findings, terminal.out.width, strict=strict))
    return report.exit_code(findings, strict=strict)


def _profile(
    path: Path | None, overrides: list[str] | None, node_rank: int | None
) -> ProfileFile | None:
    """Raises BadInput, also for what could only change a profile."""
    if path is not None:
        return load_profile(path, with_node_rank(overrides, node_rank))
    for option, value in (("--set", overrides), ("--node-rank", node_rank)):
        if value is not None and value != []:
            hint = f"`kvtier doctor PROFILE {option} ...`"
            raise BadInput("changes a profile, and none is named", hint, place=option)
    return None


def _told(explain: str | None, width: int, *, as_json: bool, schema: bool) -> str:
    """What is known of the checks without making them."""
    from kvtier_ops.doctor import report

    if schema:
        return json.dumps(report.json_schema(), indent=2)
    if as_json:
        return json.dumps(report.entries_as_json(explain), indent=2)
    if explain is not None:
        return report.render_explanation(explain, width)
    return report.render_list(width)


def _running(
    url: str, file: ProfileFile | None, interval: float | None, selection: Selection
) -> list[Finding]:
    from kvtier_ops.doctor.live.examine import INTERVAL_S, examine_live

    seconds = INTERVAL_S if interval is None else interval
    if seconds > 0:
        Terminal().note(f"looking at {masked('', url)} for {seconds:g} s")
    return examine_live(url, file.profile if file else None, seconds, selection)
