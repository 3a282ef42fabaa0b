"""`kvtier doctor`. What only it needs is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from kvtier_ops.cli.options import AsJson, Overrides
from kvtier_ops.profile.load import load_profile
from kvtier_ops.terminal import Terminal


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
