"""`kvtier doctor`. What only it needs is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from kvtier_ops.cli.bundle import bundle_command
from kvtier_ops.cli.options import AsJson, Overrides
from kvtier_ops.errors import BadInput
from kvtier_ops.profile.load import ProfileFile, load_profile
from kvtier_ops.terminal import Terminal

if TYPE_CHECKING:
    from kvtier_ops.doctor import Finding

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
    as_json: AsJson = False,
    live: Annotated[
        str, typer.Option("--live", metavar="URL", help="Look at a running engine instead.")
    ] = "",
    interval: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="With --live, to look for; 0: since its start."),
    ] = None,
) -> int:
    """Say what is wrong with this host, or with a running engine, and what mends it.

    Exit code 0: all checks pass, 3: one failed, 4: there are warnings only.
    `kvtier doctor bundle` collects what a bug report needs.
    """
    from kvtier_ops.doctor import report
    from kvtier_ops.doctor.examine import examine

    if interval is not None and not live:
        raise BadInput("goes with `--live URL`", place="--interval")
    terminal = Terminal()
    file = load_profile(profile, overrides or []) if profile else None
    findings = _running(live, file, interval) if live else examine(file)
    text = json.dumps(report.as_json(findings), indent=2) if as_json else ""
    terminal.data(text or report.render(findings, terminal.out.width))
    return report.exit_code(findings)


def _running(url: str, file: ProfileFile | None, interval: float | None) -> list[Finding]:
    from kvtier_ops.doctor.live import examine_live
    from kvtier_ops.doctor.live.examine import INTERVAL_S

    seconds = INTERVAL_S if interval is None else interval
    if seconds > 0:
        Terminal().note(f"looking at {url} for {seconds:g} s")
    return examine_live(url, file.profile if file else None, seconds)
