"""`kvtier profile ...`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from kvtier_ops.cli.options import Overrides, ProfilePath
from kvtier_ops.errors import ExitCode
from kvtier_ops.plan.resolve import resolve
from kvtier_ops.prepare import prepare_at
from kvtier_ops.profile.load import load_profile
from kvtier_ops.profile.render import json_schema, profile_as_yaml
from kvtier_ops.terminal import Terminal

app = typer.Typer(help="Check and show profiles.", no_args_is_help=True)


@app.command("validate")
def validate_profile(profile: ProfilePath, overrides: Overrides = None) -> int:
    """Read a profile and say everything that is wrong with it."""
    load_profile(profile, overrides or [])
    Terminal().note(f"{profile} is valid")
    return ExitCode.OK


@app.command("show")
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


@app.command("schema")
def show_schema() -> int:
    """Print the profile's JSON Schema, for editors."""
    Terminal().data(json.dumps(json_schema(), indent=2))
    return ExitCode.OK
