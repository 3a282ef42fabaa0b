"""`kvtier profile ...`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from kvtier_ops.cli.options import AsJson, Overrides, ProfilePath
from kvtier_ops.cli.profile_import import import_profile
from kvtier_ops.cli.profile_init import init_profile
from kvtier_ops.errors import ExitCode
from kvtier_ops.plan.resolve import resolve
from kvtier_ops.prepare import prepare_at
from kvtier_ops.profile import diff
from kvtier_ops.profile.json_schema import json_schema
from kvtier_ops.profile.load import load_profile
from kvtier_ops.profile.render import profile_as_yaml
from kvtier_ops.terminal import Terminal

app = typer.Typer(help="Write, check, show and compare profiles.", no_args_is_help=True)
app.command("init")(init_profile)
app.command("import")(import_profile)


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
    """Print the profile with every field, defaults included; secrets are masked."""
    file = load_profile(profile, overrides or [])
    shown = resolve(file.profile, prepare_at(file).plan) if resolved else file.profile
    Terminal().data(profile_as_yaml(shown, file.tree).rstrip())
    return ExitCode.OK


@app.command("diff")
def diff_profiles(
    a: Annotated[Path, typer.Argument(metavar="A", help="A profile.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    as_json: AsJson = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 if they differ, with 0 if not.")
    ] = False,
) -> int:
    """Say in which fields two profiles differ; secrets are masked."""
    found = diff.differences(load_profile(a), load_profile(b))
    Terminal().data(json.dumps(diff.as_json(found), indent=2) if as_json else diff.render(found))
    return ExitCode.REFUSED if found and exit_code else ExitCode.OK


@app.command("schema")
def show_schema() -> int:
    """Print the profile's JSON Schema, for editors."""
    Terminal().data(json.dumps(json_schema(), indent=2))
    return ExitCode.OK
