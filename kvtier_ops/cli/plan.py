"""`kvtier plan`."""

from __future__ import annotations

import json

from kvtier_ops.cli.options import AsJson, Overrides, ProfilePath
from kvtier_ops.errors import ExitCode
from kvtier_ops.plan.report import render_plan
from kvtier_ops.prepare import prepare_at
from kvtier_ops.profile.load import load_profile
from kvtier_ops.terminal import Terminal


def plan(profile: ProfilePath, overrides: Overrides = None, as_json: AsJson = False) -> int:
    """Say what this host can hold, and why. Exit code 3: it does not fit."""
    terminal = Terminal()
    made = prepare_at(load_profile(profile, overrides or [])).plan
    text = (
        json.dumps(made.as_json(), indent=2) if as_json else render_plan(made, terminal.out.width)
    )
    terminal.data(text)
    return ExitCode.OK
