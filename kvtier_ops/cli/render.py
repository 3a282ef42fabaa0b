"""`kvtier render ...`. What only it needs is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvtier_ops.cli.files import check_target, write_whole
from kvtier_ops.cli.instead import HostFile, WhatIf, instead_of
from kvtier_ops.cli.options import Overrides, ProfilePath
from kvtier_ops.errors import ExitCode, KvtierError
from kvtier_ops.prepare import prepare_at
from kvtier_ops.profile.load import load_profile
from kvtier_ops.terminal import Terminal

app = typer.Typer(
    help="Write what runs a profile elsewhere: a unit, a container, a job.", no_args_is_help=True
)

Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", metavar="PATH", help="Into this file, or a file in this folder."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
Name = Annotated[str, typer.Option(metavar="NAME", help="Of the service; default: the profile's.")]
User = Annotated[str, typer.Option(metavar="USER", help="That it runs as.")]
Image = Annotated[str, typer.Option(metavar="IMAGE", help="That has kvtier.")]
Program = Annotated[
    str, typer.Option(metavar="FILE", help="kvtier's own command; default: that of this one.")
]


@app.command("systemd")
def render_systemd(
    profile: ProfilePath,
    overrides: Overrides = None,
    output: Output = None,
    force: Force = False,
    name: Name = "",
    user: User = "",
    program: Program = "",
    host: HostFile = None,
    what_if: WhatIf = None,
) -> int:
    """Write a unit of systemd, which tunes the host as root and serves as a user."""
    given = {"--name": name, "--user": user, "--program": program}
    return _render("systemd", profile, overrides, output, force, given, host, what_if)


@app.command("docker-compose")
def render_compose(
    profile: ProfilePath,
    overrides: Overrides = None,
    output: Output = None,
    force: Force = False,
    name: Name = "",
    user: User = "",
    image: Image = "",
    host: HostFile = None,
    what_if: WhatIf = None,
) -> int:
    """Write a file for docker compose."""
    given = {"--name": name, "--user": user, "--image": image}
    return _render("docker-compose", profile, overrides, output, force, given, host, what_if)


@app.command("kubernetes")
def render_kubernetes(
    profile: ProfilePath,
    overrides: Overrides = None,
    output: Output = None,
    force: Force = False,
    name: Name = "",
    user: Annotated[str, typer.Option(metavar="UID[:GID]", help="That it runs as.")] = "",
    image: Image = "",
    host: HostFile = None,
    what_if: WhatIf = None,
) -> int:
    """Write manifests: a ConfigMap, services, and a pod for each node."""
    given = {"--name": name, "--user": user, "--image": image}
    return _render("kubernetes", profile, overrides, output, force, given, host, what_if)


@app.command("slurm")
def render_slurm(
    profile: ProfilePath,
    overrides: Overrides = None,
    output: Output = None,
    force: Force = False,
    name: Name = "",
    program: Program = "",
    host: HostFile = None,
    what_if: WhatIf = None,
) -> int:
    """Write a batch script for sbatch."""
    given = {"--name": name, "--program": program}
    return _render("slurm", profile, overrides, output, force, given, host, what_if)


def _render(
    kind: str,
    profile: Path,
    overrides: list[str] | None,
    output: Path | None,
    force: bool,
    given: dict[str, str],
    host: Path | None,
    what_if: list[str] | None,
) -> int:
    from kvtier_ops.render import FORMATS, Options, service_of

    terminal = Terminal()
    file = load_profile(profile, overrides or [])
    prepared = prepare_at(file, instead_of(host, what_if, file))
    command = ["kvtier", "render", kind, str(profile.absolute())]
    for override in overrides or []:
        command += ["--set", override]
    for option, value in given.items():
        command += [option, value] if value else []
    command += ["--host", str(host.absolute())] if host else []
    for parts in what_if or []:
        command += ["--what-if", parts]
    options = Options(
        command=tuple(command),
        overrides=tuple(overrides or ()),
        **{option.removeprefix("--"): value for option, value in given.items()},
    )
    try:
        service = service_of(file, prepared, options)
        text = FORMATS[kind].render(service)
    except KvtierError as error:
        error.locate(file.place_of)
        raise
    for warning in prepared.plan.warnings:
        terminal.note(f"warning: {warning.id}: {warning.what}\nhint: {warning.hint}")
    if output is None:
        terminal.data(text.rstrip("\n"))
        return ExitCode.OK
    target = output / f"{service.name}{FORMATS[kind].suffix}" if output.is_dir() else output
    check_target(target, force=force)
    write_whole(target, text)
    terminal.note(f"wrote {target}")
    return ExitCode.OK
